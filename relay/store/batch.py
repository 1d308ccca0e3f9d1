"""What a worker hands to `append` and what it gets back: plain values, times and versions included.

`append` is a pure function of log, state and batch (design section 3), so everything that could differ between two
machines, the clock above all, travels in here.
"""

from collections.abc import Mapping
from typing import NamedTuple

from relay.protocol.frame import FrameTemplate
from relay.verify.facts import AccountState, Identity


class Item(NamedTuple):
    """One settled event: the row it leaves behind and, unless it only changes the row, the frame it emits.

    `version` is the row version it was verified against, 0 for no row. `upstream_seq` is the host's number of
    the event. `remarks` are names under which the host's row counts it, if it is not refused.
    """

    did: str
    version: int
    state: AccountState
    template: FrameTemplate | None
    host_id: int
    upstream_seq: int
    remarks: tuple[str, ...] = ()


class HostMark(NamedTuple):
    """How far one host's stream is settled, and what was counted on the way. `dropped` maps a reason to a count.

    `proven` says that the host has sent a proven commit; once it did, every later mark may say so again.
    """

    host_id: int
    epoch: int
    low_water: int
    last_event_ms: int
    accepted: int = 0
    dropped: Mapping[str, int] = {}
    last_error: str | None = None
    proven: bool = False


class DropNote(NamedTuple):
    """One drop worth remembering for `/explain`: `subject` is the account's DID, kept if it has a row, or None."""

    host_id: int
    subject: str | None
    reason: str
    detail: str
    rev: str
    upstream_seq: int
    time_ms: int


class TakedownMark(NamedTuple):
    """An operator's word on an account: taken down since `since_ms`, with or without a purge; 0 for no longer."""

    did: str
    since_ms: int
    purge: bool = False


class Batch(NamedTuple):
    """One append. `time_ms` is the worker's clock; the log never lets it run backwards.

    `takedown` goes with the items that carry it out: it is written unless one of the items is refused.
    """

    time_ms: int
    items: tuple[Item, ...] = ()
    marks: tuple[HostMark, ...] = ()
    identities: tuple[Identity, ...] = ()
    notes: tuple[DropNote, ...] = ()
    takedown: TakedownMark | None = None


class Appended(NamedTuple):
    """What became of a batch. `refused` are indices into `items`, to be verified again, in order.

    `first_seq..tip_seq` are the seqs given to the items that emit and were not refused, in their order; `tip_seq` is
    the tip after the append, and `first_seq == tip_seq + 1` when nothing was emitted.
    """

    first_seq: int
    tip_seq: int
    refused: tuple[int, ...]
