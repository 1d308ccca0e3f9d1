"""Short ways to say what goes into a store: settings, items with real frames, and reading a log back whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relay.protocol.frame import MessageFrame, account_frame, iter_messages, parse_frame
from relay.store.batch import Batch, HostMark, Item
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.facts import AccountState

REV = "3jzfcijpj2z2a"
NOW_MS = 1_700_000_000_000
FIRST_SEQ = 1_000
SEGMENT_FRAMES = 20  # in each of `three_segments`
_HOUR_MS = 3_600_000


def settings(**changes: Any) -> LogSettings:
    """Quick and small: unsynced, a state map of 64 MiB, seqs from 1000."""
    fields: dict[str, Any] = {"sync": False, "initial_seq": FIRST_SEQ, "state_map_bytes": 64 << 20, **changes}
    return LogSettings(**fields)


def open_store(data_dir: Path, **changes: Any) -> Store:
    """A store as a starting relay opens it."""
    return Store.open(data_dir, settings(**changes), create=True, now_ms=NOW_MS)


def did(number: int) -> str:
    return f"did:plc:{number:024d}"


def row(host_id: int = 1, **fields: Any) -> AccountState:
    """What verification would leave behind; the version is the store's business."""
    return AccountState(host_id=host_id, rev=REV, data=b"d" * 32, commit=b"c" * 32)._replace(**fields)


def item(
    account: int,
    version: int,
    upstream_seq: int,
    *,
    host_id: int = 1,
    emits: bool = True,
    padding: int = 0,
    **fields: Any,
) -> Item:
    """One event of account number `account`, verified against row version `version`."""
    template = account_frame(did(account), NOW_MS, active=True, status="x" * padding or None)
    state = row(host_id, upstream_seq=upstream_seq, **fields)
    return Item(did(account), version, state, template if emits else None, host_id, upstream_seq)


def batch(*items: Item, time_ms: int = NOW_MS, marks: tuple[HostMark, ...] = (), **fields: Any) -> Batch:
    return Batch(time_ms, items, marks, **fields)


def mark(low_water: int, *, host_id: int = 1, epoch: int = 0, **fields: Any) -> HostMark:
    return HostMark(host_id, epoch, low_water, NOW_MS, **fields)


def add_hosts(store: Store, count: int = 2) -> None:
    """Hosts 1 to `count`."""
    for number in range(1, count + 1):
        store.add_host(f"pds{number}.example:443", insecure=False, now_ms=NOW_MS)


def fill(store: Store, count: int, *, time_ms: int = NOW_MS, padding: int = 0) -> None:
    """Append `count` frames of account 0, one batch each, a millisecond apart."""
    with store.view() as view:
        account = view.account(did(0))
    version = account.version if account is not None else 0
    for number in range(count):
        store.append(batch(item(0, version + number, number, padding=padding), time_ms=time_ms + number))


def three_segments(data_dir: Path) -> list[Path]:
    """The data files of a closed store: the state, two sealed segments, the active one. Each has some 20 pages."""
    store = open_store(data_dir)
    add_hosts(store)
    for hour in range(3):
        numbers = range(hour * SEGMENT_FRAMES, (hour + 1) * SEGMENT_FRAMES)
        items = (item(number, 0, number, padding=3_000) for number in numbers)
        store.append(batch(*items, time_ms=NOW_MS + hour * _HOUR_MS))
    store.close()
    return [data_dir / "state" / "data.mdb", *sorted((data_dir / "log").glob("*/data.mdb"))]


def frames(store: Store, after_seq: int | None = None, bytes_max: int = 1 << 20) -> Iterator[tuple[int, bytes]]:
    """`(seq, frame)` of everything after a position, the whole window by default."""
    reader = store.reader()
    position = store.tip().floor - 1 if after_seq is None else after_seq
    while (part := reader.read(position, bytes_max)) is not None:
        messages = list(iter_messages(part.data))
        assert len(messages) == part.count == part.last_seq - part.first_seq + 1
        assert part.first_seq > position
        yield from enumerate(messages, part.first_seq)
        position = part.last_seq


def seqs(store: Store, after_seq: int | None = None, bytes_max: int = 1 << 20) -> list[int]:
    """The seqs in the log; each frame is checked to carry its own."""
    found = []
    for seq, frame in frames(store, after_seq, bytes_max):
        parsed = parse_frame(frame)
        assert isinstance(parsed, MessageFrame)
        assert parsed.payload["seq"] == seq
        found.append(seq)
    return found
