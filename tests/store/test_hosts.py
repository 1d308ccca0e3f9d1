"""Host rows: adding and changing, what bumps the generation, and how a cursor moves."""

from pathlib import Path

import pytest

from relay.store.errors import Corrupt
from relay.store.hosts import HostRow
from relay.store.layout import KEY_BYTES_MAX
from relay.store.store import Store
from tests.store.batches import NOW_MS, batch, item, mark, settings


def host(store: Store, host_id: int = 1) -> HostRow:
    with store.view() as view:
        found = view.host(host_id)
    assert found is not None
    return found


def generation(store: Store) -> int:
    with store.view() as view:
        return view.generation()


def test_adding_a_host_twice_gives_the_row_that_is_there(store: Store) -> None:
    first = store.add_host("c.example:443", insecure=True, now_ms=NOW_MS, start="live", tier="trusted")
    before = generation(store)
    assert store.add_host("c.example:443", insecure=False, now_ms=NOW_MS + 1) == first
    assert generation(store) == before
    with store.view() as view:
        assert view.host_named("c.example:443") == first
        assert view.host_named("d.example:443") is None
        for name_bytes in (1, KEY_BYTES_MAX, KEY_BYTES_MAX + 1):  # LMDB refuses a longer key than it can hold
            assert view.host_named("x" * name_bytes) is None


def test_a_new_host_is_idle_unless_it_is_known_to_be_something_else(store: Store) -> None:
    """Active means connected or recently heard, and nobody has tried it yet."""
    assert store.add_host("c.example", insecure=False, now_ms=NOW_MS).status == "idle"
    assert store.add_host("d.example", insecure=False, now_ms=NOW_MS, status="offline").status == "offline"


def test_hosts_are_listed_in_pages_in_order_of_id(store: Store) -> None:
    with store.view() as view:
        assert [row.host_id for row in view.hosts(0, 10)] == [1, 2]
        assert [row.host_id for row in view.hosts(1, 10)] == [2]
        assert [row.host_id for row in view.hosts(0, 1)] == [1]


@pytest.mark.parametrize(
    ("change", "bumps"),
    [
        ({"status": "offline", "since_ms": 5, "last_error": "refused"}, 0),
        ({"proven": True}, 0),
        ({"status": "banned"}, 1),
        ({"account_limit": 5}, 1),
        ({"mode": "lenient"}, 1),
        ({"epoch": 1, "cursor": 0}, 1),
        ({"status": "active"}, 0),  # as it was
    ],
)
def test_only_what_workers_hold_bumps_the_generation(store: Store, change: dict[str, object], bumps: int) -> None:
    before = generation(store)
    changed = store.update_host(1, **change)
    assert generation(store) == before + bumps
    assert host(store) == changed
    assert all(getattr(changed, name) == value for name, value in change.items())


def test_the_end_of_a_ban_bumps_the_generation(store: Store) -> None:
    store.update_host(1, status="banned")
    before = generation(store)
    store.update_host(1, status="active")
    assert generation(store) == before + 1


def test_wrong_changes_are_refused_and_leave_the_store_usable(store: Store) -> None:
    with pytest.raises(KeyError):
        store.update_host(77, mode="strict")
    for wrong in ({"hostname": "x"}, {"host_id": 3}, {"nonsense": 1}, {"cursor": "text"}):
        with pytest.raises(TypeError):
            store.update_host(1, **wrong)
    assert host(store).cursor is None
    store.append(batch(item(1, 0, 1)))


def test_marks_move_the_cursor_and_add_up(store: Store) -> None:
    store.append(batch(marks=(mark(5, accepted=3, dropped={"replayed": 1}, last_error="x"),)))
    store.append(batch(marks=(mark(9, accepted=2, dropped={"replayed": 1, "schema": 4}),)))
    row = host(store)
    assert (row.cursor, row.accepted, row.dropped) == (9, 5, {"replayed": 2, "schema": 4})
    assert (row.last_error, row.first_event_ms, row.last_event_ms) == ("x", NOW_MS, NOW_MS)


def test_remarks_count_only_what_was_not_refused(store: Store) -> None:
    unproven = item(1, 0, 1)._replace(remarks=("unproven",))
    refused = item(2, 7, 2)._replace(remarks=("unproven", "chain_break"))
    store.append(batch(unproven, refused, marks=(mark(2),)))
    store.append(batch(item(3, 0, 3)._replace(remarks=("unproven",)), marks=(mark(3, proven=True),)))
    assert host(store).remarks == {"unproven": 2}
    store.append(batch(marks=(mark(4),)))
    assert host(store).proven  # once proven, always


def test_a_proven_host_survives_a_death_between_the_two_commits(tmp_path: Path) -> None:
    """The end of a ratchet and the counts are in the log with the commit that caused them (design section 3)."""
    fatal = False

    def die(step: str) -> None:
        if fatal and step == "state_commit":
            raise KeyboardInterrupt

    store = Store.open(tmp_path, settings(), create=True, now_ms=NOW_MS, on_step=die)
    store.add_host("pds1.example:443", insecure=False, now_ms=NOW_MS)
    fatal = True
    with pytest.raises(KeyboardInterrupt):
        store.append(batch(item(1, 0, 1)._replace(remarks=("unproven",)), marks=(mark(1, proven=True),)))
    assert not host(store).proven
    store.close()

    healed = Store.open(tmp_path, settings())
    healed.append(batch(item(2, 0, 2)))
    assert (host(healed).proven, host(healed).remarks) == (True, {"unproven": 1})
    healed.close()


def test_several_hosts_change_in_one_txn_and_unknown_ones_are_passed_over(store: Store) -> None:
    store.poll()
    store.update_hosts({1: {"status": "idle"}, 77: {"status": "idle"}, 2: {"status": "offline", "last_error": "x"}})
    assert (host(store).status, host(store, 2).status, host(store, 2).last_error) == ("idle", "offline", "x")
    assert store.poll() is not None


def test_a_cursor_never_goes_backwards_within_an_epoch(store: Store) -> None:
    store.append(batch(marks=(mark(9),)))
    store.append(batch(marks=(mark(4),)))
    assert host(store).cursor == 9


def test_a_mark_of_an_earlier_epoch_counts_but_does_not_move(store: Store) -> None:
    store.append(batch(marks=(mark(900),)))
    store.update_host(1, epoch=1, cursor=0)
    store.append(batch(marks=(mark(950, epoch=0, accepted=1),)))
    assert (host(store).epoch, host(store).cursor, host(store).accepted) == (1, 0, 1)
    store.append(batch(marks=(mark(3, epoch=1),)))
    assert host(store).cursor == 3


def test_a_mark_of_a_later_epoch_brings_it_with_it(store: Store) -> None:
    store.append(batch(marks=(mark(900),)))
    store.append(batch(marks=(mark(2, epoch=1),)))
    assert (host(store).epoch, host(store).cursor) == (1, 2)


def test_a_cursor_of_64_bits_fits(store: Store) -> None:
    store.append(batch(marks=(mark(2**64 - 1),)))
    assert host(store).cursor == 2**64 - 1


def test_nothing_settled_leaves_no_cursor(store: Store) -> None:
    store.append(batch(marks=(mark(-1),)))
    assert host(store).cursor is None


def test_a_mark_for_an_unknown_host_is_a_bug_of_ours(store: Store) -> None:
    with pytest.raises(AssertionError):
        store.append(batch(item(1, 0, 1, host_id=1), marks=(mark(1, host_id=99),)))


def test_policy_is_kept_by_name_and_bumps_the_generation(store: Store) -> None:
    before = generation(store)
    store.set_policy("domain/b.example", b"ban")
    store.set_policy("domain/a.example", b"ban")
    store.set_policy("new_per_day", b"7")
    store.set_policy("domain/b.example", None)
    with store.view() as view:
        assert view.policy_page("domain/", "", 9) == [("a.example", b"ban")]
        assert view.policy_value("new_per_day") == b"7"
        assert view.policy_value("domain/b.example") is None
    assert generation(store) == before + 4


def test_policy_is_read_as_a_value_or_as_its_default(store: Store) -> None:
    store.set_policy("new_per_day", b"7")
    store.set_policy("request_crawl", b"{")
    with store.view() as view:
        assert view.policy("new_per_day", int, 50) == 7
        assert view.policy("nothing", int, 50) == 50
        with pytest.raises(Corrupt):
            view.policy("request_crawl", bool, True)
