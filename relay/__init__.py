"""An AT Protocol relay that verifies everything, loses nothing and explains itself."""

__version__ = "0.1.0"
