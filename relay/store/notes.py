"""The last drops of each host and account, so that their owners can see why something is not coming through.

A ring of `NOTES_KEPT` per subject; one write per subject and reason a minute, by the notes' own times, so that a noisy
host costs no more than a quiet one (design section 4, "Bounds on strangers"). Notes are diagnostics: they are written
beside an append and are not part of its effects.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from relay.store.batch import DropNote
from relay.store.env import Env, Txn
from relay.store.errors import Corrupt
from relay.store.layout import ACCOUNTS, REASONS, did_key, u64

NOTES_KEPT = 20
NOTE_INTERVAL_MS = 60_000
DETAIL_CHARS_MAX = 200
REV_CHARS_MAX = 64

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, str, str, int, int]).decode


class _Ring(NamedTuple):
    """The slots of one subject as they are: note by slot number."""

    prefix: bytes
    slots: dict[int, DropNote]


def read_notes(env: Env, txn: "Txn[bytes]", subject: str | int) -> list[DropNote]:
    """The notes of a DID or a host id, newest first."""
    prefix = _prefix(subject)
    if prefix is None:
        return []
    ring = _ring(env, txn, prefix, subject if isinstance(subject, str) else None)
    return sorted(ring.slots.values(), key=lambda note: note.time_ms, reverse=True)


def put_notes(env: Env, txn: "Txn[bytes]", notes: Iterable[DropNote]) -> None:
    """Write what the bounds let pass: for the host always, and for the DID if it has an account row."""
    rings: dict[bytes, _Ring | None] = {}
    for note in notes:
        for subject in (note.host_id, note.subject):
            prefix = None if subject is None else _prefix(subject)
            if subject is None or prefix is None:
                continue
            if prefix not in rings:
                rings[prefix] = _ring_of(env, txn, prefix, subject)
            ring = rings[prefix]
            if ring is not None:
                _put(env, txn, ring, note._replace(subject=subject if isinstance(subject, str) else None))


def _ring_of(env: Env, txn: "Txn[bytes]", prefix: bytes, subject: str | int) -> _Ring | None:
    if isinstance(subject, int):
        return _ring(env, txn, prefix, None)
    if txn.get(subject.encode(), db=env.db[ACCOUNTS]) is None:
        return None
    return _ring(env, txn, prefix, subject)


def _put(env: Env, txn: "Txn[bytes]", ring: _Ring, note: DropNote) -> None:
    recent = note.time_ms - NOTE_INTERVAL_MS
    if any(kept.reason == note.reason and kept.time_ms > recent for kept in ring.slots.values()):
        return
    slot = len(ring.slots)
    if slot >= NOTES_KEPT:
        slot = min(ring.slots, key=lambda number: (ring.slots[number].time_ms, number))
    note = note._replace(detail=note.detail[:DETAIL_CHARS_MAX], rev=note.rev[:REV_CHARS_MAX])
    ring.slots[slot] = note
    value = (note.host_id, str(note.reason), note.detail, note.rev, note.upstream_seq, note.time_ms)
    txn.put(ring.prefix + bytes([slot]), _encode(value), db=env.db[REASONS])


def _prefix(subject: str | int) -> bytes | None:
    if isinstance(subject, int):
        return b"h" + u64(subject)
    key = did_key(subject)
    return b"d" + key + b"\0" if key is not None else None


def _ring(env: Env, txn: "Txn[bytes]", prefix: bytes, did: str | None) -> _Ring:
    cursor = txn.cursor(db=env.db[REASONS])
    found = cursor.set_range(prefix)
    slots: dict[int, DropNote] = {}
    while found and cursor.key()[: len(prefix)] == prefix:
        slots[cursor.key()[-1]] = _unpack(cursor.value(), did)
        found = cursor.next()
    return _Ring(prefix, slots)


def _unpack(value: bytes, did: str | None) -> DropNote:
    try:
        host_id, reason, detail, rev, upstream_seq, time_ms = _decode(value)
    except msgspec.DecodeError as error:
        raise Corrupt(f"note: {error}") from error
    return DropNote(host_id, did, reason, detail, rev, upstream_seq, time_ms)
