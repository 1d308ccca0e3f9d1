"""Items on their way to the log: in which order, how many to a batch, and what each DID will be. Plain data, no tasks.

An entry is queued, then part of one batch. For as long as it is either, it is in the overlay: the next event of its DID
is judged against the state that it leaves behind, before anything is written.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from relay.ingest.lanes import Pending
from relay.store.batch import HostMark, Item
from relay.verify.facts import AccountState


class Origin(Protocol):
    """Where the events of a host come from, as the batcher sees it."""

    def settle(self, seq: int) -> None:
        """The event is part of a batch that is being appended."""

    def reopen(self, seq: int) -> None:
        """It was refused: it is not settled after all."""

    def refuse(self, refused: Sequence[Pending]) -> None:
        """These events, all of one DID and oldest first, have to be judged again."""

    def appended(self, entry: "Entry") -> None:
        """The item is in the log."""

    def take_mark(self) -> HostMark:
        """How far the stream is settled, and the counts since the last call."""


class Entry(NamedTuple):
    """An item on its way, with what is needed to judge it again."""

    item: Item
    pending: Pending
    origin: Origin


class OwnWord(Protocol):
    """A status that we say of an account, not an event of its host (`relay.ingest.ownwords`)."""

    item: Item

    def refused(self) -> None:
        """The row is no longer the one it was said of."""

    def appended(self) -> None:
        """It is in the log."""


class EntryQueue:
    """Entries that wait for a batch, oldest first. A batch has `items_max` entries or `bytes_max` bytes of frames."""

    def __init__(self, items_max: int, bytes_max: int) -> None:
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: deque[Entry | OwnWord] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        """Whether there is enough for a batch."""
        return len(self._entries) >= self._items_max or self._bytes >= self._bytes_max

    def push(self, entry: Entry | OwnWord) -> None:
        """Queue behind the others; there is always room."""
        self._entries.append(entry)
        self._bytes += _frame_bytes(entry)

    def take(self) -> list[Entry | OwnWord]:
        """The entries of the next batch, off the queue; one that is too large for any batch comes alone."""
        entries: list[Entry | OwnWord] = []
        size = 0
        while self._entries and len(entries) < self._items_max:
            size += _frame_bytes(self._entries[0])
            if entries and size > self._bytes_max:
                break
            entries.append(self._entries.popleft())
        self._bytes -= sum(map(_frame_bytes, entries))
        return entries

    def withdraw(self, dids: set[str]) -> list[Entry | OwnWord]:
        """All entries of these DIDs, off the queue, in their order."""
        withdrawn = [entry for entry in self._entries if entry.item.did in dids]
        self._entries = deque(entry for entry in self._entries if entry.item.did not in dids)
        self._bytes -= sum(map(_frame_bytes, withdrawn))
        return withdrawn


class _Overlaid(NamedTuple):
    state: AccountState
    entries: int


class Overlay:
    """For a DID with items on their way, the row that the newest of them leaves behind."""

    def __init__(self) -> None:
        self._overlaid: dict[str, _Overlaid] = {}

    def state(self, did: str) -> AccountState | None:
        """The row, None when the stored one is the truth."""
        overlaid = self._overlaid.get(did)
        return overlaid.state if overlaid else None

    def enter(self, item: Item) -> None:
        """The item is on its way, behind all others of its DID."""
        before = self._overlaid.get(item.did)
        state = item.state._replace(version=item.version + 1)
        self._overlaid[item.did] = _Overlaid(state, before.entries + 1 if before else 1)

    def leave(self, did: str) -> None:
        """The oldest item of the DID is stored or refused."""
        overlaid = self._overlaid[did]
        if overlaid.entries == 1:
            del self._overlaid[did]
        else:
            self._overlaid[did] = overlaid._replace(entries=overlaid.entries - 1)


def _frame_bytes(entry: Entry | OwnWord) -> int:
    """What an entry weighs in a batch."""
    if isinstance(entry, Entry):
        return entry.pending.frame_bytes
    return entry.item.template.frame_bytes_max if entry.item.template is not None else 0
