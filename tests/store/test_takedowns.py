"""Takedowns: the account's status and the entry that operators see are one append; a repeated one keeps its purge."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.store.policy import TAKEDOWN, Takedown
from relay.store.store import Store
from tests.store.batches import NOW_MS, add_hosts, batch, did, item, seqs, settings

DID = did(1)
PROGRESS = {"segments": 3, "purged_segments": 2}


def standing(store: Store) -> tuple[str, Takedown | None]:
    """The local status of the account, and its entry."""
    with store.view() as view:
        account, entry = view.account(DID), view.policy(TAKEDOWN + DID, Takedown, None)
    assert account is not None
    return account.local_status, entry


def test_a_takedown_and_its_end(store: Store) -> None:
    store.append(batch(item(1, 0, 1)))
    down = store.take_down(DID, now_ms=NOW_MS + 5, purge=True)
    assert standing(store) == ("takendown", Takedown(NOW_MS + 5, purge=True))
    up = store.restore(DID, now_ms=NOW_MS + 6)
    assert standing(store) == ("", None)
    assert (down.seq, up.seq) == (seqs(store)[-2], seqs(store)[-1])
    with pytest.raises(KeyError):
        store.take_down(did(2), now_ms=NOW_MS)


@pytest.mark.parametrize("step", ["locked", "state_commit"])
@pytest.mark.parametrize("ends", [False, True])
def test_a_kill_leaves_both_or_neither(tmp_path: Path, step: str, ends: bool) -> None:
    """Before the segment is committed nothing happened, after that everything has (design section 3)."""
    fatal = False

    def die(name: str) -> None:
        if fatal and name == step:
            raise KeyboardInterrupt

    def change(store: Store) -> None:
        if ends:
            store.restore(DID, now_ms=NOW_MS + 6)
        else:
            store.take_down(DID, now_ms=NOW_MS + 5, purge=True)

    store = Store.open(tmp_path, settings(), create=True, now_ms=NOW_MS, on_step=die)
    add_hosts(store)
    store.append(batch(item(1, 0, 1)))
    if ends:
        store.take_down(DID, now_ms=NOW_MS + 5, purge=True)
    before = standing(store)
    fatal = True
    with pytest.raises(KeyboardInterrupt):
        change(store)
    assert standing(store) == before
    store.close()

    healed = Store.open(tmp_path, settings())
    is_done = step == "state_commit"
    after = ("", None) if ends else ("takendown", Takedown(NOW_MS + 5, purge=True))
    assert standing(healed) == (after if is_done else before)
    assert len(seqs(healed)) == 1 + ends + is_done
    healed.close()


def test_a_takedown_repeated_keeps_its_date_and_the_purge_under_way(store: Store) -> None:
    store.append(batch(item(1, 0, 1)))
    store.take_down(DID, now_ms=NOW_MS + 5, purge=True)
    store.note_purge({DID: Takedown(NOW_MS + 5, purge=True)}, PROGRESS)
    under_way = standing(store)
    for purge in (False, True):
        assert store.take_down(DID, now_ms=NOW_MS + 9, purge=purge).seq is None
        assert standing(store) == under_way == ("takendown", Takedown(NOW_MS + 5, purge=True, **PROGRESS))
    assert len(seqs(store)) == 2


def test_a_purge_asked_for_later_or_again_begins_at_the_beginning(store: Store) -> None:
    store.append(batch(item(1, 0, 1)))
    store.take_down(DID, now_ms=NOW_MS + 5)
    store.take_down(DID, now_ms=NOW_MS + 6, purge=True)
    asked = Takedown(NOW_MS + 5, purge=True)
    assert standing(store) == ("takendown", asked)
    store.note_purge({DID: asked}, {**PROGRESS, "purged_ms": NOW_MS + 7})
    done = standing(store)
    store.take_down(DID, now_ms=NOW_MS + 8)
    assert standing(store) == done
    store.take_down(DID, now_ms=NOW_MS + 9, purge=True)
    assert standing(store) == ("takendown", asked)


def test_progress_of_a_takedown_that_was_made_anew_is_not_told(store: Store) -> None:
    store.append(batch(item(1, 0, 1)))
    store.take_down(DID, now_ms=NOW_MS + 5, purge=True)
    store.restore(DID, now_ms=NOW_MS + 6)
    store.note_purge({DID: Takedown(NOW_MS + 5, purge=True)}, PROGRESS)
    assert standing(store) == ("", None)
    store.take_down(DID, now_ms=NOW_MS + 7)
    store.note_purge({DID: Takedown(NOW_MS + 5, purge=True)}, PROGRESS)
    assert standing(store) == ("takendown", Takedown(NOW_MS + 7))


@given(st.builds(Takedown, st.just(5), st.booleans(), purged_ms=st.sampled_from([0, 7])), st.booleans())
def test_taking_down_again_never_withdraws_a_purge(known: Takedown, purge: bool) -> None:
    again = known.again(purge=purge)
    assert again.since_ms == known.since_ms
    assert again.purge == (known.purge or purge)
    assert again == known or (purge and again == Takedown(5, purge=True))
