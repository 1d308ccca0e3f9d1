"""Floor 6: the program. Files, environment, arguments, signals and processes; nobody imports it."""
