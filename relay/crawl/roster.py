"""Which hosts a worker follows: rendezvous hashing, so that a changed number of workers moves as few as possible."""

from hashlib import blake2b


def owner_of(hostname: str, workers: int) -> int:
    """The index (0..workers-1) of the ingest worker that follows this host. Pure: all workers agree without talking."""
    assert workers >= 1
    return max(range(workers), key=lambda index: _weight(hostname, index))


def _weight(hostname: str, index: int) -> bytes:
    return blake2b(f"{index} {hostname}".encode(), digest_size=8).digest()
