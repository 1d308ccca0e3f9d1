"""Floor 3: logs and metrics. Owns how they look, not when they are written."""
