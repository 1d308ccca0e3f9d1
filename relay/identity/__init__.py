"""Floor 4: DIDs to documents, with cache and refresh. Returns what should be stored; does not store it."""
