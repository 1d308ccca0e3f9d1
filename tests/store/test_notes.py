"""The last drops by host and account: who gets a note, how often, and how many are kept."""

from relay.store.batch import DropNote
from relay.store.notes import DETAIL_CHARS_MAX, NOTE_INTERVAL_MS, NOTES_KEPT
from relay.store.store import Store
from tests.store.batches import NOW_MS, batch, did, item


def note(reason: str, time_ms: int, subject: str | None = None, detail: str = "") -> DropNote:
    return DropNote(1, subject, reason, detail, "", 7, time_ms)


def kept(store: Store, subject: str | int = 1) -> list[DropNote]:
    with store.view() as view:
        return view.notes(subject)


def test_one_note_per_subject_and_reason_a_minute(store: Store) -> None:
    first = note("schema", NOW_MS)
    store.append(batch(notes=(first, note("schema", NOW_MS + 5), note("framing", NOW_MS + 5))))
    store.append(batch(notes=(note("schema", NOW_MS + NOTE_INTERVAL_MS - 1),)))
    assert [found.reason for found in kept(store)] == ["framing", "schema"]
    store.append(batch(notes=(note("schema", NOW_MS + NOTE_INTERVAL_MS),)))
    assert len(kept(store)) == 3


def test_the_ring_keeps_the_newest(store: Store) -> None:
    for number in range(NOTES_KEPT + 5):
        store.append(batch(notes=(note("schema", NOW_MS + number * NOTE_INTERVAL_MS),)))
    times = [found.time_ms for found in kept(store)]
    assert times == [NOW_MS + number * NOTE_INTERVAL_MS for number in reversed(range(5, NOTES_KEPT + 5))]


def test_only_a_did_with_a_row_gets_notes_and_its_host_always(store: Store) -> None:
    store.append(batch(item(1, 0, 1), notes=(note("schema", NOW_MS, did(1)), note("schema", NOW_MS, did(2)))))
    assert kept(store, did(1)) == [note("schema", NOW_MS, did(1))]
    assert kept(store, did(2)) == []
    assert kept(store, 1) == [note("schema", NOW_MS)]


def test_a_did_that_starts_like_another_has_its_own_ring(store: Store) -> None:
    store.append(batch(item(1, 0, 1)))
    store.append(batch(notes=(note("schema", NOW_MS, did(1)),)))
    assert kept(store, did(1)[:-1]) == []


def test_a_long_detail_is_cut(store: Store) -> None:
    store.append(batch(notes=(note("schema", NOW_MS, detail="x" * 5_000),)))
    assert len(kept(store)[0].detail) == DETAIL_CHARS_MAX
