"""Floor 5: the role that answers consumers, XRPC clients and operators from the log; one process is one worker."""
