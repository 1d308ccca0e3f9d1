"""Group commit: items of all hosts of this worker, appended together in one thread while the loop goes on.

Owns when a batch is due and what becomes of it. A refused item (another worker wrote that account meanwhile) goes back
to its origin together with every later item of the same DID, those still queued included: they were judged against a
state that never came to be. A word of our own that is refused is said again, for the row as it then is, before the
events behind it are judged again.
"""

from collections.abc import Awaitable, Callable, Sequence
from math import inf

import trio

from relay.ingest.entries import Entry, EntryQueue, Origin, Overlay, OwnWord
from relay.ingest.lanes import Pending
from relay.store.batch import Appended, Batch, DropNote
from relay.store.settings import LogSettings
from relay.verify.facts import AccountState, Identity

TARGET_ITEMS = 32  # a batch smaller than this is worth waiting for, up to QUIET_WAIT_SECONDS
QUIET_WAIT_SECONDS = 0.05
BARE_INTERVAL_SECONDS = 1.0  # batches that append no frame
NOTES_MAX = 1_000

Append = Callable[[Batch], Awaitable[Appended]]


class Batcher:
    """Collects entries and appends them in batches; one append at a time."""

    def __init__(
        self,
        append: Append,
        settings: LogSettings,
        now_ms: Callable[[], int],
        take_identities: Callable[[], tuple[Identity, ...]],
    ) -> None:
        self._append = append
        self._settings = settings
        self._now_ms = now_ms
        self._take_identities = take_identities
        self._queue = EntryQueue(settings.batch_items, settings.batch_bytes)
        self._overlay = Overlay()
        self._touched: dict[Origin, None] = {}
        self._notes: list[DropNote] = []
        self._arrived = trio.Event()  # an item or a touch came while there was none
        self._filled = trio.Event()  # the queue reached the size of a batch
        self._room = trio.Event()  # a batch was taken off the queue
        self._closing = False
        self._bare_due = 0.0
        self._oldest_at = 0.0  # when the oldest item of the queue came
        self._window_seconds = settings.batch_ms / 1000

    def overlaid(self, did: str) -> AccountState | None:
        """The state that the items on their way leave behind, None when the stored row is the truth."""
        return self._overlay.state(did)

    def put(self, entry: Entry | OwnWord) -> None:
        """Add an accepted item, or a word of ours. Never refuses: readers ask `is_full` after each read."""
        self._overlay.enter(entry.item)
        if not self._queue:
            self._oldest_at = trio.current_time()
        self._queue.push(entry)
        self._arrived.set()
        if self.is_full:
            self._filled.set()

    def touch(self, origin: Origin, *, at_once: bool = False) -> None:
        """The stream has a new mark or new counts, to be written with the next batch.

        `at_once` is for a mark that could not be found again: it waits for no interval, only for an append under way.
        """
        if at_once:
            self._bare_due = 0.0
        if at_once or not self._touched:
            self._arrived.set()
        self._touched[origin] = None

    def note(self, note: DropNote) -> None:
        """Remember a drop for `/explain`; beyond the bound of one batch the oldest stay."""
        if len(self._notes) < NOTES_MAX:
            self._notes.append(note)

    @property
    def is_full(self) -> bool:
        """Whether readers should let the batcher have its turn."""
        return self._queue.is_full

    async def wait_for_room(self) -> None:
        """Wait until a batch was taken off the queue."""
        while self.is_full and not self._closing:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()

    async def run(self) -> None:
        """Append until `close`, then append what is left and return. An error of the store propagates."""
        while not self._closing or self._queue or self._touched:
            await self._wait_for_work()
            if self._queue and not self._closing:
                await self._wait_for_more()
            await self._append_once()

    def close(self) -> None:
        """Let `run` finish what is queued. Call it when no stream puts any more."""
        self._closing = True
        for event in (self._arrived, self._filled, self._room):
            event.set()

    async def _wait_for_work(self) -> None:
        """Until there is an item; or a mark, whose turn comes once in `BARE_INTERVAL_SECONDS`."""
        while not self._queue and not self._closing:
            now = trio.current_time()
            if self._touched and now >= self._bare_due:
                self._bare_due = now + BARE_INTERVAL_SECONDS
                return
            self._arrived = trio.Event()
            with trio.move_on_at(self._bare_due if self._touched else inf):
                await self._arrived.wait()

    async def _wait_for_more(self) -> None:
        self._filled = trio.Event()
        if self.is_full:
            return
        with trio.move_on_at(self._oldest_at + self._window_seconds):
            await self._filled.wait()

    async def _append_once(self) -> None:
        entries = self._queue.take()
        for entry in entries:
            if isinstance(entry, Entry):
                entry.origin.settle(entry.item.upstream_seq)
                self._touched[entry.origin] = None
        batch = Batch(
            time_ms=self._now_ms(),
            items=tuple(entry.item for entry in entries),
            marks=tuple(origin.take_mark() for origin in self._touched),
            identities=self._take_identities(),
            notes=tuple(self._notes),
        )
        self._touched.clear()
        self._notes.clear()
        self._room.set()
        appended = await self._append(batch)
        self._settle(entries, appended.refused)
        self._adapt(len(entries))

    def _settle(self, entries: list[Entry | OwnWord], refused: Sequence[int]) -> None:
        back = set(refused)
        stuck = {entries[index].item.did for index in refused}
        for index, entry in enumerate(entries):
            self._overlay.leave(entry.item.did)
            if not isinstance(entry, Entry):
                if index not in back:
                    entry.appended()
            elif index in back:
                entry.origin.reopen(entry.item.upstream_seq)
            else:
                entry.origin.appended(entry)
        if stuck:
            self._return_refused([entries[index] for index in refused], stuck)

    def _return_refused(self, entries: list[Entry | OwnWord], stuck: set[str]) -> None:
        later = self._queue.withdraw(stuck)
        for entry in later:
            self._overlay.leave(entry.item.did)
        self._room.set()
        by_lane: dict[tuple[Origin, str], list[Pending]] = {}
        for entry in entries + later:
            if isinstance(entry, Entry):
                by_lane.setdefault((entry.origin, entry.item.did), []).append(entry.pending)
            else:
                entry.refused()
        for (origin, _), waiting in by_lane.items():
            origin.refuse(waiting)

    def _adapt(self, items: int) -> None:
        """When little comes, wait longer for more of it: a synced append costs the same for one item as for thirty."""
        shortest = self._settings.batch_ms / 1000
        if items >= TARGET_ITEMS:
            self._window_seconds = max(self._window_seconds / 2, shortest)
        elif items * 2 < TARGET_ITEMS:
            self._window_seconds = min(self._window_seconds * 1.25, max(QUIET_WAIT_SECONDS, shortest))
