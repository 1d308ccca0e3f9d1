"""Floor 0: bytes of the AT Protocol to frozen values and back. Pure; knows nothing else, not even time."""
