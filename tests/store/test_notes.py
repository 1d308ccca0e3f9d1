"""The last drops by host and account: who gets a note, how often, and how many are kept."""

from pathlib import Path

import msgspec

from relay.store.batch import DropNote
from relay.store.env import open_env
from relay.store.layout import REASONS, STATE_DBS, u64
from relay.store.notes import DETAIL_CHARS_MAX, NOTE_INTERVAL_MS, NOTES_KEPT
from relay.store.store import Store
from tests.store.batches import NOW_MS, batch, did, item, open_store


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
    assert kept(store, 1) == [note("schema", NOW_MS, did(1))]


def test_all_other_hosts_share_one_note_of_an_account(store: Store) -> None:
    """Any host can send anything in its name: that empties no ring, and hides nothing of the account's own host."""
    own = [note("schema", NOW_MS, did(1)), note("host_mismatch", NOW_MS + 1, did(1))]
    store.append(batch(item(1, 0, 1), notes=tuple(own)))
    for number in range(2 * NOTES_KEPT):
        time_ms = NOW_MS + 2 + number * NOTE_INTERVAL_MS
        reason = ("host_mismatch", "schema")[number % 2]
        store.append(batch(notes=(note(reason, time_ms, did(1))._replace(host_id=2 + number % 3),)))
        store.append(batch(notes=(note("other", time_ms + 1, did(1))._replace(host_id=9),)))
        last, *others = kept(store, did(1))
        assert (last.reason, last.host_id, last.time_ms) == (reason, 2 + number % 3, time_ms), "one a minute"
        assert others == own[::-1]
    again = note("host_mismatch", last.time_ms + 1, did(1))
    store.append(batch(notes=(again,)))
    assert kept(store, did(1)) == [again, last, *own[::-1]]


def test_notes_of_the_host_before_stay_after_a_move(store: Store) -> None:
    """They are another host's then; the next such one takes the place of the last."""
    before = [note(reason, NOW_MS, did(1)) for reason in ("schema", "framing")]
    store.append(batch(item(1, 0, 1), notes=tuple(before)))
    store.append(batch(item(1, 1, 1, host_id=2)))
    late = note("host_mismatch", NOW_MS + NOTE_INTERVAL_MS, did(1))
    store.append(batch(notes=(late,)))
    assert kept(store, did(1)) == [late, before[0]]


def test_a_host_is_told_whose_event_it_was_if_the_account_has_a_row(store: Store) -> None:
    """Design section 4, "Bounds on strangers": a DID that anybody can make up is kept nowhere."""
    store.append(batch(item(1, 0, 1), notes=(note("schema", NOW_MS, did(2)), note("framing", NOW_MS + 1, did(1)))))
    assert [(found.reason, found.subject) for found in kept(store)] == [("framing", did(1)), ("schema", None)]


def test_a_note_of_a_store_from_before_hosts_had_dids_is_read(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    env = open_env(tmp_path / "state", STATE_DBS, map_bytes=64 << 20)
    with env.begin(write=True) as txn:
        value = msgspec.msgpack.encode((1, "schema", "no seq", "3k", 7, NOW_MS))
        txn.put(b"h" + u64(1) + b"\0", value, db=env.db[REASONS])
    env.close()
    store = open_store(tmp_path)
    assert kept(store) == [DropNote(1, None, "schema", "no seq", "3k", 7, NOW_MS)]
    store.close()


def test_a_did_that_starts_like_another_has_its_own_ring(store: Store) -> None:
    store.append(batch(item(1, 0, 1)))
    store.append(batch(notes=(note("schema", NOW_MS, did(1)),)))
    assert kept(store, did(1)[:-1]) == []


def test_a_long_detail_is_cut(store: Store) -> None:
    store.append(batch(notes=(note("schema", NOW_MS, detail="x" * 5_000),)))
    assert len(kept(store)[0].detail) == DETAIL_CHARS_MAX
