"""One lookup of a DID: who waits for it, what was said while it was under way, and the identity it comes to."""

from typing import NamedTuple

import trio

from relay.identity.fetch import LookupFault
from relay.protocol.diddoc import DidDocument, normalise_host
from relay.verify.facts import Identity


class LookupOutcome(NamedTuple):
    """For metrics: `outcome` is found, gone, did_fault or directory_fault."""

    outcome: str
    seconds: float


class Lookup:
    """A lookup under way; `result` is there when `done` is set.

    `read` is the number of its last question to the directory, `began_ms` when that was sent. Of what was said after
    it: `is_outdated` when the host that we know announced a change, `announced_by` all hosts that did.
    """

    def __init__(self) -> None:
        self.done = trio.Event()
        self.result: Identity | LookupFault | None = None
        self.begin(0, 0)

    def begin(self, read: int, now_ms: int) -> None:
        """The directory is asked now: what was announced before, its answer shows."""
        self.read = read
        self.began_ms = now_ms
        self.is_outdated = False
        self.announced_by: set[str] = set()

    def identity_of(self, document: DidDocument) -> Identity:
        """The answer, stale if the account's host announced a change that it may not show yet."""
        host = normalise_host(document.pds) if document.pds else None
        stale = self.is_outdated or host in self.announced_by
        return Identity(document.did, document.key, host, self.began_ms, stale=stale)

    def tombstone(self, did: str) -> Identity:
        """The answer for a DID that is gone: nothing but the fact."""
        return Identity(did, None, None, self.began_ms, tombstone=True)
