"""Segments: how many are mapped at once, and the one walk over their entries."""

from itertools import chain
from pathlib import Path

from relay.store.segments import Segments
from tests.store.batches import FIRST_SEQ, fill, open_store, settings, three_segments


def test_no_more_are_open_than_allowed_beside_those_in_use(tmp_path: Path) -> None:
    """Each takes address space of the size of a whole segment and more."""
    three_segments(tmp_path)
    segments = Segments(tmp_path / "log", settings(), readonly=True, alone=True, open_max=2)
    first, second, third = segments.names()

    for name in (first, second, third):
        segments.info(name, active=False)
    assert list(segments._open) == [second, third]
    with segments.borrowed(second, active=False), segments.borrowed(third, active=False):
        segments.used_bytes(first)
        assert set(segments._open) == {first, second, third}
    segments.close()
    assert segments._open == {}


def test_entries_come_in_order_from_behind_a_seq_with_or_without_their_chunks(tmp_path: Path) -> None:
    """More than one txn's worth of them."""
    store = open_store(tmp_path)
    store.add_host("pds1.example:443", insecure=False, now_ms=1)
    fill(store, 40)
    store.close()
    segments = Segments(tmp_path / "log", settings(), readonly=True, alone=True)

    parts = list(segments.entries(FIRST_SEQ, active=False))
    bare = list(chain.from_iterable(segments.entries(FIRST_SEQ, active=True, after_seq=FIRST_SEQ, with_chunks=False)))
    segments.close()

    entries = list(chain.from_iterable(parts))
    assert len(parts) > 1
    assert [seq for seq, _, _ in entries] == list(range(FIRST_SEQ, FIRST_SEQ + 40))
    assert all(chunk for _, chunk, _ in entries)
    assert bare == [(seq, None, effects) for seq, _, effects in entries[1:]]
