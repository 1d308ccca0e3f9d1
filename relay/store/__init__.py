"""Floor 2: the log and the state in LMDB. Synchronous; no clock, no logging, no sockets. The only importer of lmdb."""
