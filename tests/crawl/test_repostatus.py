"""Asking a host about one of its accounts: what counts as an answer, and how often it is asked."""

import pytest
import trio
import trio.testing

from relay.crawl.repostatus import (
    ANSWER_BYTES_MAX,
    CHECK_SECONDS_PER_DID,
    CHECKS_PER_MINUTE_PER_HOST,
    RepoStatus,
    StatusChecks,
    StatusSource,
)
from relay.net.connection import Site
from relay.net.dial import Dialer
from relay.net.exchange import Request, Response, json_response
from relay.net.http import HttpClient
from relay.world.host import SimulatedHost
from relay.world.loopback import serve_on_loopback
from relay.world.messages import account_message

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
ACTIVE = {"did": DID, "active": True}


async def ask(port: int, did: str = DID) -> RepoStatus | None:
    client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "test")
    return await StatusSource(client, lambda _: True).ask(f"localhost:{port}", did)


async def test_the_host_s_word_is_read(nursery: trio.Nursery) -> None:
    host = SimulatedHost()
    url = await nursery.start(host.serve)
    port = int(url.rpartition(":")[2])
    host.emit(account_message(DID), 0)
    assert await ask(port) == RepoStatus(active=True, status="")
    host.emit(account_message(DID, "suspended"), 0)
    assert await ask(port) == RepoStatus(active=False, status="suspended")
    assert await ask(port, DID.replace("a", "b")) is None
    assert await ask(1) is None
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (json_response(200, ACTIVE), RepoStatus(active=True, status="")),
        (json_response(200, {**ACTIVE, "status": "desynchronized"}), RepoStatus(active=True, status="desynchronized")),
        (json_response(200, {**ACTIVE, "did": "did:plc:b"}), None),
        (json_response(200, {**ACTIVE, "active": "yes"}), None),
        (json_response(200, {**ACTIVE, "status": "x" * 200}), None),
        (json_response(200, {"did": DID}), None),
        (json_response(500, ACTIVE), None),
        (Response(302, (("Location", "http://localhost:1/"),)), None),
        (Response(200, (), b"<html>"), None),
        (Response(200, (), b'{"a": "\xff"}'), None),
        (Response(200, (), b"[" * 10_000), None),
        (Response(200, (), b" " * (ANSWER_BYTES_MAX + 1)), None),
    ],
)
async def test_anything_else_is_no_answer(answer: Response, word: RepoStatus | None, nursery: trio.Nursery) -> None:
    """Checklist 178: what a stranger answers lifts nothing by accident and crashes nothing."""

    async def site(_: Request) -> Response:
        await trio.lowlevel.checkpoint()
        return answer

    port = await nursery.start(serve_on_loopback, Site(site))
    assert await ask(port) == word
    nursery.cancel_scope.cancel()


async def test_turns_are_bounded_by_did_and_by_host(autojump_clock: trio.testing.MockClock) -> None:
    """Checklist 172."""
    asked: list[str] = []

    async def answer(hostname: str, did: str) -> RepoStatus:
        await trio.lowlevel.checkpoint()
        asked.append(f"{hostname} {did}")
        return RepoStatus(active=True, status="")

    checks = StatusChecks(answer)
    for _ in range(3):
        assert checks.may_ask(DID, "a") == (not asked)
        assert (await checks.ask(DID, "a") is None) == (len(asked) == 1 and _ > 0)
    for number in range(CHECKS_PER_MINUTE_PER_HOST + 5):
        await checks.ask(f"did:plc:{number}", "a")
    assert len(asked) == CHECKS_PER_MINUTE_PER_HOST
    assert await checks.ask("did:plc:new", "b") is not None
    await trio.sleep(CHECK_SECONDS_PER_DID)
    assert checks.may_ask(DID, "a")
