"""The identities that a worker has at hand, and which of its reads each of them came from. Plain data, bounded.

A **read** is one question to the directory, numbered in the order in which they began. Where a document comes from says
what it can know: one whose read began after an event came holds all that was announced before that event.
"""

from collections import OrderedDict
from typing import NamedTuple

from relay.verify.facts import Identity


class _Remembered(NamedTuple):
    identity: Identity
    read: int


class Memory:
    """At most `entries_max` identities; the one that was unused longest is forgotten first."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()

    def get(self, did: str) -> Identity | None:
        """What is remembered of the DID, which counts as a use."""
        remembered = self._remembered.get(did)
        if remembered is None:
            return None
        self._remembered.move_to_end(did)
        return remembered.identity

    def read_of(self, did: str) -> int:
        """The number of the read that the identity came from; 0 if it is not remembered or came from a stored row."""
        remembered = self._remembered.get(did)
        return remembered.read if remembered is not None else 0

    def put(self, identity: Identity, read: int) -> None:
        """Remember what read number `read` answered; 0 for a stored row."""
        self._remembered[identity.did] = _Remembered(identity, read)
        self._remembered.move_to_end(identity.did)
        if len(self._remembered) > self._entries_max:
            self._remembered.popitem(last=False)
