"""Floor 4: upstream hosts, which of them are read and how. Returns what should be stored; does not store it."""
