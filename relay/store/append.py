"""The one way into the log: compare, commit the segment, commit the state (design section 3, "append(batch)").

`append` is a pure function of log, state and batch. Its commit point is the commit of the segment: from there on the
batch happened, and if this process dies before the state has it, the next append of anybody takes it over from the log
(`relay.store.heal`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from relay.protocol.frame import FrameTemplate, message_header
from relay.protocol.limits import SEQ_MAX
from relay.store.accounts import pack_account, version_of
from relay.store.batch import Appended, Batch, HostMark, Item, TakedownMark
from relay.store.effects import NO_EFFECTS, Effects, Head, apply_effects, pack_entry
from relay.store.env import Txn
from relay.store.errors import Corrupt
from relay.store.heal import catch_up, grown, rolled
from relay.store.hosts import HostChange
from relay.store.identities import pack_identity
from relay.store.layout import ACCOUNTS, LogRow, did_key, write_log_row
from relay.store.notes import put_notes
from relay.store.policy import TAKEDOWN, Takedown, encoded, read_decoded
from relay.store.segments import Segments
from relay.store.settings import LogSettings
from relay.store.state import State

SEGMENT_MS_MAX = 3_600_000


class _Compared(NamedTuple):
    """Items against rows. `rows` by DID, packed, in order of first change; by host id the `lowest_refused` upstream
    seq, the `refused_count`, and the `remarks` on items that were not refused.
    """

    templates: list[FrameTemplate]
    rows: dict[str, bytes]
    refused: tuple[int, ...]
    lowest_refused: dict[int, int]
    refused_count: dict[int, int]
    remarks: dict[int, dict[str, int]]


def append(state: State, segments: Segments, settings: LogSettings, batch: Batch) -> Appended:
    """Append a batch: all of it but the refused items, or nothing. Raises `StoreError`.

    An item is refused when its row has another version than it was verified against, and so is every later item of that
    DID in the batch. A batch that emits no frame writes the state alone.
    """
    emits = any(item.template is not None for item in batch.items)
    while True:
        with state.writing() as txn:
            row = catch_up(state, segments, txn)
            if not (emits and _is_due(segments, settings, row, batch.time_ms)):
                return _append(_Log(state, segments, settings, txn), row, batch)
            write_log_row(state.env, txn, rolled(row))
        # The new segment is named by a committed state before it exists; whoever comes first makes its folder.


class _Log(NamedTuple):
    """All that an append needs besides the batch, under the lock."""

    state: State
    segments: Segments
    settings: LogSettings
    txn: "Txn[bytes]"


def _append(log: _Log, row: LogRow, batch: Batch) -> Appended:
    state, segments, settings, txn = log
    compared = _compare(state, txn, batch.items)
    effects = Effects(
        accounts=list(compared.rows.items()),
        hosts=[_host_change(mark, compared) for mark in batch.marks],
        identities=[(identity.did, pack_identity(identity)) for identity in batch.identities],
        takedowns=[] if batch.takedown is None or compared.refused else [_takedown(state, txn, batch.takedown)],
    )
    # All that can fail on the batch itself comes before the commit point: behind it the batch would be taken over, and
    # fail again, by every writer that comes. Nothing written here is seen or kept without the commit of this txn.
    apply_effects(state.env, txn, effects)
    put_notes(state.env, txn, batch.notes)
    first_seq = row.applied_seq + 1
    if compared.templates:
        time_ms = max(batch.time_ms, row.time_ms)
        entries = _entries(compared.templates, first_seq, time_ms, settings.batch_bytes, effects)
        active, row = row.active, grown(row, row.applied_seq + len(compared.templates), time_ms)
        write_log_row(state.env, txn, row)
        segments.append(active, entries)
        state.on_step("segment_committed")
    return Appended(first_seq, row.applied_seq, compared.refused)


def _compare(state: State, txn: "Txn[bytes]", items: Sequence[Item]) -> _Compared:
    compared = _Compared([], {}, (), {}, {}, {})
    refused: list[int] = []
    refused_dids: set[str] = set()
    accounts = state.env.db[ACCOUNTS]
    for index, item in enumerate(items):
        did = item.did
        row = compared.rows.get(did)
        if row is None:
            key = did_key(did)
            assert key is not None, "an item's DID is a supported one"
            row = txn.get(key, db=accounts)
        if did in refused_dids or version_of(row) != item.version:
            refused_dids.add(did)
            refused.append(index)
            lowest = compared.lowest_refused.get(item.host_id, item.upstream_seq)
            compared.lowest_refused[item.host_id] = min(lowest, item.upstream_seq)
            compared.refused_count[item.host_id] = compared.refused_count.get(item.host_id, 0) + 1
            continue
        compared.rows[did] = pack_account(item.state, item.version + 1)
        if item.template is not None:
            compared.templates.append(item.template)
        for remark in item.remarks:
            counts = compared.remarks.setdefault(item.host_id, {})
            counts[remark] = counts.get(remark, 0) + 1
    return compared._replace(refused=tuple(refused))


def _takedown(state: State, txn: "Txn[bytes]", mark: TakedownMark) -> tuple[str, bytes | None]:
    """The entry that an operator's word leaves behind; one that is there is kept but for a purge newly asked for."""
    if not mark.since_ms:
        return mark.did, None
    known = read_decoded(state.env, txn, TAKEDOWN + mark.did, Takedown, None)
    entry = Takedown(mark.since_ms, mark.purge) if known is None else known.again(purge=mark.purge)
    return mark.did, encoded(entry)


def _host_change(mark: HostMark, compared: _Compared) -> HostChange:
    """A mark as it may be written: the cursor stays below what was refused, and refused items are not accepted yet."""
    cursor = mark.low_water
    lowest = compared.lowest_refused.get(mark.host_id)
    if lowest is not None:
        cursor = min(cursor, lowest - 1)
    return HostChange(
        host_id=mark.host_id,
        epoch=mark.epoch,
        cursor=cursor if cursor >= 0 else None,
        last_event_ms=mark.last_event_ms,
        accepted=max(0, mark.accepted - compared.refused_count.get(mark.host_id, 0)),
        dropped={str(reason): count for reason, count in mark.dropped.items()},
        last_error=mark.last_error,
        proven=mark.proven,
        remarks=compared.remarks.get(mark.host_id, {}),
    )


def _entries(
    templates: Sequence[FrameTemplate], first_seq: int, time_ms: int, chunk_bytes_max: int, effects: Effects
) -> list[tuple[int, bytes | None, bytes]]:
    """Number the frames and cut them into chunks of complete messages."""
    if first_seq + len(templates) - 1 > SEQ_MAX:
        raise Corrupt(f"the sequence is used up at {first_seq}")
    entries: list[tuple[int, bytes | None, bytes]] = []
    parts: list[bytes] = []
    start, size = first_seq, 0
    for seq, template in enumerate(templates, first_seq):
        frame = template.with_seq(seq)
        header = message_header(len(frame))
        message_bytes = len(header) + len(frame)
        if parts and size + message_bytes > chunk_bytes_max:
            entries.append(_entry(parts, start, seq - 1, time_ms, NO_EFFECTS if entries else effects))
            parts, start, size = [], seq, 0
        parts += (header, frame)
        size += message_bytes
    last_seq = first_seq + len(templates) - 1
    entries.append(_entry(parts, start, last_seq, time_ms, NO_EFFECTS if entries else effects))
    return entries


def _entry(
    parts: list[bytes], first_seq: int, last_seq: int, time_ms: int, effects: Effects
) -> tuple[int, bytes | None, bytes]:
    return first_seq, b"".join(parts), pack_entry(Head(time_ms, last_seq), effects)


def _is_due(segments: Segments, settings: LogSettings, row: LogRow, time_ms: int) -> bool:
    """Whether the active segment has to be sealed before the next chunk."""
    if not row.active_time_ms:
        return False
    if time_ms - row.active_time_ms >= SEGMENT_MS_MAX:
        return True
    return segments.used_bytes(row.active) >= settings.segment_bytes
