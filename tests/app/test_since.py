"""`relay tail --since`: ages and moments as people write them, and the cursor behind them over HTTP."""

import re
from pathlib import Path

import pytest
import trio

from relay.app import tail
from relay.app.since import cursor_at, parse_since
from relay.net.connection import Site
from relay.net.dial import Dialer
from relay.net.exchange import json_response
from relay.net.server import serve_http
from tests.support.log_writer import START_MS
from tests.support.serving import serve

DIALER = Dialer(allow_private=True, allow_insecure=True)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", "2026-09-21T14:11:50.000Z"),
        ("2h", "2026-09-21T12:13:20.000Z"),
        ("1d", "2026-09-20T14:13:20.000Z"),
        ("999999999d", "1970-01-01T00:00:00.000Z"),
        ("2026-01-31T00:00:00+02:00", "2026-01-31T00:00:00+02:00"),
    ],
)
def test_ages_and_moments(text: str, moment: str) -> None:
    assert parse_since(text, START_MS) == moment


@pytest.mark.parametrize("text", [" ", "2", "h", "-2h", "2 h", "1.5h", "yesterday", "2026-01-31"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        parse_since(text, START_MS)


async def test_tail_starts_at_a_moment(tmp_path: Path) -> None:
    """The first event that is printed is the first one at or after it."""
    async with serve(tmp_path) as serving:
        serving.log.append(3)
        later = serving.log.append(4, after_ms=60_000)
        printed: list[str] = []
        options = tail.TailOptions(
            f"ws://127.0.0.1:{serving.port}", events=4, seconds=10, since="2026-09-21T14:13:21Z", contiguous=True
        )
        assert await tail.tail(options, printed.append)
        assert [int(line.split()[0]) for line in printed] == later


@pytest.mark.parametrize(("status", "answer"), [(404, {}), (200, {}), (200, {"seq": "5"}), (200, [])])
async def test_a_server_that_does_not_tell_is_no_cursor(status: int, answer: object, nursery: trio.Nursery) -> None:
    async def answers(_request: object) -> object:
        await trio.lowlevel.checkpoint()
        return json_response(status, answer)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(serve_http, [listener], Site(answers))  # type: ignore[arg-type] # answers anything
    url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/xrpc/x"
    assert await cursor_at(DIALER, url, "2026-09-21T14:13:21Z", user_agent="test") is None
    nursery.cancel_scope.cancel()
