"""Floor 5: the role that reads hosts. Orders, verifies, batches and appends; one process is one worker."""
