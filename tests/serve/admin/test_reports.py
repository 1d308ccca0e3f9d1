"""Overview, live figures and histories: the numbers are those of the log and of the rows."""

import json
from dataclasses import replace
from pathlib import Path

import h11
import pytest
import trio
import trio.testing

from relay.serve.admin.reports import BUCKETS, event_rates
from relay.serve.settings import OperatorSettings, ServeRoleSettings
from tests.support.log_writer import START_MS
from tests.support.operating import SETTINGS, Desk, basic, operating
from tests.support.serving import serve


async def test_the_overview_adds_up(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk, desk.serving.connect():
        desk.serving.log.append(9)
        answer = (await desk.get("overview")).json

    assert answer["window"]["events"] == 10
    assert answer["hosts"]["total"] == answer["hosts"]["statuses"]["active"] == 1
    assert (answer["consumers"]["count"], answer["workers"], answer["diskFreeBytes"]) == (1, [], 1 << 40)


async def test_event_rates_are_counted_in_the_log(tmp_path: Path) -> None:
    async with serve(tmp_path, SETTINGS) as serving:
        assert event_rates(serving.store, START_MS, START_MS + 60_000) == []
        for _ in range(60):
            serving.log.append(3, after_ms=1_000)
        began, ended = START_MS + 1_000, START_MS + 61_000

        rates = event_rates(serving.store, began, ended)
        wider = event_rates(serving.store, began - 10**9, ended)
        last_half = event_rates(serving.store, began + 30_000, ended)

    assert [each["perSecond"] for each in rates] == [3.0] * BUCKETS
    assert wider == rates
    assert [each["perSecond"] for each in last_half] == [3.0] * 30


@pytest.mark.parametrize("query", ["hours=0", "hours=x", "hours=99999999"])
async def test_a_history_of_no_length_is_refused(query: str, tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        assert (await desk.get(f"history?{query}")).status == 400
        assert (await desk.get("history")).json["hours"] == 1


async def read_pulse(desk: Desk, stream: trio.SocketStream) -> dict[str, object]:
    """Head and first event of a stream."""
    client = h11.Connection(h11.CLIENT)
    await stream.send_all(
        client.send(h11.Request(method="GET", target="/admin/live", headers=[("Host", "x"), *basic().items()])) or b""
    )
    received = b""
    while b"data: " not in received or not received.endswith(b"\n\n"):
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(await stream.receive_some(65_536))
        elif isinstance(event, h11.Response):
            assert (event.status_code, dict(event.headers)[b"content-type"]) == (200, b"text/event-stream")
        elif isinstance(event, h11.Data):
            received += bytes(event.data)
    found: dict[str, object] = json.loads(received.partition(b"data: ")[2])
    return found


def live_pages(most: int) -> ServeRoleSettings:
    """So many and no more are kept up to date."""
    return replace(SETTINGS, operator=OperatorSettings(streams_max=most))


async def test_live_figures_are_sent_to_so_many_pages_and_no_more(tmp_path: Path) -> None:
    async with (
        operating(tmp_path, live_pages(1)) as desk,
        await trio.open_tcp_stream("127.0.0.1", desk.serving.port) as stream,
    ):
        assert (await read_pulse(desk, stream))["version"]
        refused = await desk.get("live")

        assert (refused.status, refused.headers["retry-after"]) == (429, "10")


async def status_of_one_more(stream: trio.abc.Stream) -> int:
    """Ask for live figures, and take no more of the answer than its status."""
    credentials = basic()["Authorization"]
    await stream.send_all(f"GET /admin/live HTTP/1.1\r\nHost: x\r\nAuthorization: {credentials}\r\n\r\n".encode())
    return int((await stream.receive_some(len("HTTP/1.1 200"))).split()[1])


async def test_pages_that_ask_at_once_get_no_more_places_and_give_them_back(tmp_path: Path) -> None:
    """Of no answer more than the head is under way when its client goes."""
    async with operating(tmp_path, live_pages(2)) as desk:
        streams = [desk.serving.memory.connect() for _ in range(10)]
        statuses: list[int] = []

        async def ask(stream: trio.abc.Stream) -> None:
            statuses.append(await status_of_one_more(stream))

        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(ask, stream)
        assert sorted(statuses) == [200] * 2 + [429] * 8

        for stream in streams:
            await trio.aclose_forcefully(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert await status_of_one_more(desk.serving.memory.connect()) == 200
