"""What a host holds: seqs, cursors, planted faults, and the frames of WebSocket by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.world.messages import account_message, identity_message
from relay.world.window import EventWindow, HostedAccount, websocket_message

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


def filled(count: int) -> EventWindow:
    window = EventWindow()
    for seq in range(1, count + 1):
        window.append(b"%d" % seq, seq)
    return window


def seqs_after(window: EventWindow, cursor: int | None) -> list[int]:
    data, _ = window.read(window.position(cursor), 10**6)
    found = []
    while data:
        found.append(int(data[2 : 2 + data[1]]))
        data = data[2 + data[1] :]
    return found


@pytest.mark.parametrize(
    ("cursor", "expected"),
    [(0, [1, 2, 3, 4]), (2, [3, 4]), (4, []), (None, []), (9, [])],
)
def test_a_cursor_is_exclusive_and_its_absence_means_live(cursor: int | None, expected: list[int]) -> None:
    assert seqs_after(filled(4), cursor) == expected


def test_reading_goes_on_where_it_stopped() -> None:
    """Small reads give at least one entry each, all of them once, also those that come later."""
    window = filled(4)
    position = window.position(0)
    read = []
    for _ in range(6):
        data, position = window.read(position, 1)
        read.append(data[2:])
    window.append(b"5", 5)

    assert read == [b"1", b"2", b"3", b"4", b"", b""]
    assert window.read(position, 100)[0] == websocket_message(b"5")


def test_an_expired_window_has_a_floor() -> None:
    window = filled(5)
    position = window.position(4)
    window.expire(4)

    assert (window.floor, window.tip) == (4, 5)
    assert seqs_after(window, 0) == [4, 5]
    assert window.read(position, 100)[0] == websocket_message(b"5")
    window.expire(99)
    assert (window.floor, seqs_after(window, 0)) == (6, [])


def test_the_oldest_go_when_there_are_too_many() -> None:
    window = EventWindow(entries_max=10)
    for seq in range(1, 101):
        window.append(b"%d" % seq, seq)

    assert 10 <= len(seqs_after(window, 0)) <= 20
    assert seqs_after(window, 0)[-1] == 100


def test_a_planted_fault_follows_the_newest_event_and_is_not_replayed_past_it() -> None:
    window = filled(2)
    window.plant(b"garbage")
    window.append(b"3", 3)

    assert window.read(window.position(1), 100)[0] == b"\x82\x012garbage\x82\x013"
    assert window.read(window.position(2), 100)[0] == b"\x82\x013"


def test_a_restarted_host_numbers_from_one_again() -> None:
    window = filled(5)
    window.restart()

    assert window.emit(identity_message(DID, None), 0) == 1
    assert window.floor == 1


def test_seqs_must_rise() -> None:
    with pytest.raises(AssertionError):
        filled(3).append(b"3", 3)


def test_the_host_remembers_what_it_said_of_an_account() -> None:
    window = EventWindow()
    window.emit(identity_message(DID, "x.example.com"), 0)
    assert window.accounts == {}
    window.emit(account_message(DID), 0)
    assert window.accounts == {DID: HostedAccount()}
    window.emit(account_message(DID, "deactivated"), 0)
    assert window.accounts == {DID: HostedAccount(active=False, status="deactivated")}


@given(st.sampled_from([0, 1, 125, 126, 65_535, 65_536, 70_000]))
def test_websocket_lengths_take_their_shortest_form(size: int) -> None:
    message = websocket_message(bytes(size))
    width = 0 if size < 126 else 2 if size < 65_536 else 8

    assert message[0] == 0x82
    assert len(message) == 2 + width + size
    assert (int.from_bytes(message[2 : 2 + width], "big") if width else message[1]) == size
