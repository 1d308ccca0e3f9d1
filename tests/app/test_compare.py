"""Two relays side by side: what counts as the same event, what only one has, and the command against real workers."""

import json
from pathlib import Path

import trio

from relay.app.compare import Side, compare, lines, report, take
from relay.protocol.frame import account_frame, info_frame
from tests.support.log_writer import START_MS, did_of
from tests.support.serving import serve
from tests.support.until import until


def account(number: int, seq: int, time_ms: int = START_MS) -> bytes:
    return account_frame(did_of(number), time_ms, True, None).with_seq(seq)


def sides(*, a: list[tuple[bytes, float]], b: list[tuple[bytes, float]]) -> tuple[Side, Side]:
    made = Side("wss://a"), Side("wss://b")
    for side, messages in zip(made, (a, b), strict=True):
        for message, at in messages:
            take(side, message, at)
    return made


def test_the_same_event_has_another_seq_elsewhere() -> None:
    both = sides(a=[(account(1, 5), 50.0)], b=[(account(1, 99), 50.5)])
    answer = report(*both, 0.0, 100.0)

    assert (answer["both"], answer["laterSecondsB"]) == (1, 0.5)
    assert [relay["onlyHere"] for relay in answer["relays"]] == [0, 0]


def test_only_the_middle_is_held_against_the_other() -> None:
    """What came in the first or last ten seconds may be missed for no reason but the moment."""
    messages = [(account(number, number), at) for number, at in ((1, 9.0), (2, 11.0), (3, 89.0), (4, 91.0))]
    answer = report(*sides(a=messages, b=[]), 0.0, 100.0)

    first, second = answer["relays"]
    assert [each["did"] for each in first["examples"]] == [did_of(2), did_of(3)]
    assert (first["events"], first["onlyHere"], first["accountsOnlyHere"], second["onlyHere"]) == (4, 2, 2, 0)


def test_what_cannot_be_read_is_counted_and_infos_are_no_events() -> None:
    side, _ = sides(a=[(b"\xff", 1.0), (info_frame("OutdatedCursor"), 1.0)], b=[])

    assert (side.unreadable, side.events) == (1, 0)


async def test_two_workers_are_compared(tmp_path: Path) -> None:
    """Ends before its time when both go away."""
    async with serve(tmp_path / "a") as a, serve(tmp_path / "b") as b, trio.open_nursery() as nursery:

        async def feed() -> None:
            await until(lambda: bool(len(a.worker.audience) and len(b.worker.audience)))
            a.log.append(2)
            b.log.append(1)
            a.drain.set()  # what was appended still goes out
            b.drain.set()

        nursery.start_soon(feed)
        answer = await compare(f"ws://127.0.0.1:{a.port}", f"http://127.0.0.1:{b.port}", 60.0)

    assert [relay["events"] for relay in answer["relays"]] == [2, 1]
    assert all("1001" in relay["ended"] for relay in answer["relays"])
    assert json.loads(json.dumps(answer)) == answer
    assert any(line.split()[1:3] == ["2", "1"] for line in lines(answer))


def test_the_report_fits_a_terminal() -> None:
    both = sides(a=[(account(number, number), 50.0) for number in range(3)], b=[])
    both[0].url, both[1].url = "wss://relay.somewhere.example.com:2470", "wss://relay.elsewhere.example.com:2470"
    both[1].ended = "the server closed the connection with 1008, which it explained at some length " * 2
    told = lines(report(*both, 0.0, 100.0), 80)

    assert max(len(line) for line in told) <= 80
    assert told[0].split() == ["RELAY", "EVENTS", "ACCOUNTS", "ONLY", "HERE", "ACCOUNTS", "ONLY", "HERE"]
    assert told[1].split()[0] == "wss://relay.som…xample.com:2470"
    assert both[1].ended.split() == " ".join(told[3:6]).split()


async def test_a_relay_that_is_not_there_is_named() -> None:
    answer = await compare("ws://127.0.0.1:1", "ws://127.0.0.1:2", 60.0)

    assert all(relay["ended"] for relay in answer["relays"])
