"""The last drops of each host and account, so that their owners can see why something is not coming through.

A ring of `NOTES_KEPT` per subject; one write per subject and reason a minute, by the notes' own times, so that a noisy
host costs no more than a quiet one (design section 4, "Bounds on strangers"). A host's note names the account if that
one has a row here: an operator asks whose event was dropped, and a stranger's DIDs fill no page. Any host can send
anything in the name of an account, so all hosts but its own share one slot of its ring. Notes are diagnostics: they are
written beside an append and are not part of its effects.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from relay.store.accounts import standing
from relay.store.batch import DropNote
from relay.store.env import Env, Txn
from relay.store.errors import Unpacking
from relay.store.layout import ACCOUNTS, REASONS, did_key, u64

NOTES_KEPT = 20
NOTE_INTERVAL_MS = 60_000
DETAIL_CHARS_MAX = 200
REV_CHARS_MAX = 64


class _Value(msgspec.Struct, frozen=True, array_like=True):
    """A note as it is stored. `did` is kept in a host's ring only, and missing in what was written before it was."""

    host_id: int
    reason: str
    detail: str
    rev: str
    upstream_seq: int
    time_ms: int
    did: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Value).decode


class _Ring(NamedTuple):
    """The slots of one subject as they are: note by slot number.

    `did` is the subject of an account's ring; `host_id` the host it is about, or the one that speaks for the account.
    """

    prefix: bytes
    did: str | None
    host_id: int
    slots: dict[int, DropNote]


def read_notes(env: Env, txn: "Txn[bytes]", subject: str | int) -> list[DropNote]:
    """The notes of a DID or a host id, newest first."""
    prefix = _prefix(subject)
    if prefix is None:
        return []
    slots = _slots(env, txn, prefix, subject if isinstance(subject, str) else None)
    return sorted(slots.values(), key=lambda note: note.time_ms, reverse=True)


def put_notes(env: Env, txn: "Txn[bytes]", notes: Iterable[DropNote]) -> None:
    """Write what the bounds let pass: for the host always, and for the DID if it has an account row."""
    rings: dict[str | int | None, _Ring | None] = {None: None}
    for note in notes:
        for subject in (note.host_id, note.subject):
            if subject is not None and subject not in rings:
                rings[subject] = _ring_of(env, txn, subject)
        known = note if rings[note.subject] is not None else note._replace(subject=None)
        for ring in (rings[note.host_id], rings[note.subject]):
            if ring is not None:
                _put(env, txn, ring, known)


def _ring_of(env: Env, txn: "Txn[bytes]", subject: str | int) -> _Ring | None:
    prefix = _prefix(subject)
    if prefix is None:
        return None
    if isinstance(subject, int):
        return _Ring(prefix, None, subject, _slots(env, txn, prefix, None))
    row = txn.get(subject.encode(), db=env.db[ACCOUNTS])
    if row is None:
        return None
    return _Ring(prefix, subject, standing(row).host_id, _slots(env, txn, prefix, subject))


def _put(env: Env, txn: "Txn[bytes]", ring: _Ring, note: DropNote) -> None:
    slot = _slot_for(ring, note)
    if slot is None:
        return
    note = note._replace(detail=note.detail[:DETAIL_CHARS_MAX], rev=note.rev[:REV_CHARS_MAX])
    ring.slots[slot] = note
    did = note.subject if ring.did is None and note.subject is not None else ""
    value = _Value(note.host_id, str(note.reason), note.detail, note.rev, note.upstream_seq, note.time_ms, did)
    txn.put(ring.prefix + bytes([slot]), _encode(value), db=env.db[REASONS])


def _slot_for(ring: _Ring, note: DropNote) -> int | None:
    """Where a note goes: a free slot, or that of the oldest; of another host, that of the last such one."""
    is_foreign = note.host_id != ring.host_id
    alike = {number: kept for number, kept in ring.slots.items() if (kept.host_id != ring.host_id) == is_foreign}
    recent = note.time_ms - NOTE_INTERVAL_MS
    if any(kept.time_ms > recent and (is_foreign or kept.reason == note.reason) for kept in alike.values()):
        return None
    if is_foreign and alike:
        return max(alike, key=lambda number: (alike[number].time_ms, number))
    if len(ring.slots) < NOTES_KEPT:
        return len(ring.slots)
    return min(ring.slots, key=lambda number: (ring.slots[number].time_ms, number))


def _prefix(subject: str | int) -> bytes | None:
    if isinstance(subject, int):
        return b"h" + u64(subject)
    key = did_key(subject)
    return b"d" + key + b"\0" if key is not None else None


def _slots(env: Env, txn: "Txn[bytes]", prefix: bytes, did: str | None) -> dict[int, DropNote]:
    cursor = txn.cursor(db=env.db[REASONS])
    found = cursor.set_range(prefix)
    slots: dict[int, DropNote] = {}
    while found and cursor.key()[: len(prefix)] == prefix:
        slots[cursor.key()[-1]] = _unpack(cursor.value(), did)
        found = cursor.next()
    return slots


def _unpack(value: bytes, did: str | None) -> DropNote:
    with Unpacking("note"):
        note = _decode(value)
    subject = did or note.did or None
    return DropNote(note.host_id, subject, note.reason, note.detail, note.rev, note.upstream_seq, note.time_ms)
