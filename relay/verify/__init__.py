"""Floor 1: what the specification accepts. Pure decisions; every input is an argument, the time included."""
