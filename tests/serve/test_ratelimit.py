"""Limits on requests by address, and how a client is told of them (checklist 248)."""

from pathlib import Path

import pytest

from relay.serve.ratelimit import WINDOW_SECONDS, RequestLimit, shared_buckets
from relay.serve.settings import HttpSettings, ServeRoleSettings
from tests.support.fake_consumer import connect
from tests.support.serving import LOG, request, serve

LIST = "/xrpc/com.atproto.sync.listHosts"
NOW_MS = 1_790_000_000_000


def test_the_limit_is_told_on_the_way_and_lifts_by_itself() -> None:
    limit = RequestLimit(3)
    told = [limit.take("192.0.2.1", 10.0, NOW_MS) for _ in range(4)]
    assert [standing.refused for standing in told] == [False, False, False, True]
    assert [dict(standing.headers)["RateLimit-Remaining"] for standing in told] == ["2", "1", "0", "0"]
    last = dict(told[-1].headers)
    assert last["RateLimit-Limit"] == "3"
    assert last["RateLimit-Policy"] == f"3;w={WINDOW_SECONDS}"
    wait = int(last["Retry-After"])
    assert int(last["RateLimit-Reset"]) == NOW_MS // 1000 + wait
    assert limit.take("192.0.2.1", 10.0 + wait - 2, NOW_MS).refused
    assert not limit.take("192.0.2.1", 10.0 + wait, NOW_MS).refused


def test_addresses_do_not_disturb_each_other_but_an_ipv6_network_is_one() -> None:
    limit = RequestLimit(1)
    assert not limit.take("192.0.2.1", 0.0, NOW_MS).refused
    assert not limit.take("192.0.2.2", 0.0, NOW_MS).refused
    assert not limit.take("2001:db8::1", 0.0, NOW_MS).refused
    assert limit.take("2001:db8::2", 0.0, NOW_MS).refused


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_shared_buckets_let_through_together_what_one_would(workers: int) -> None:
    """In a burst at most one more for each worker, and in a long time no more than the rate."""
    shares = [shared_buckets(0.5, 30, workers, 10) for _ in range(workers)]

    def taken(now: float) -> int:
        return sum(share.get("192.0.2.1", now).take(now) for share in shares for _ in range(100))

    assert 30 <= taken(0.0) < 30 + workers
    assert sum(taken(float(now)) for now in range(1, 161)) == 80


async def test_too_many_requests_are_429_with_everything_a_client_needs(tmp_path: Path) -> None:
    """An address behind a trusted proxy counts by itself; answers of every kind carry the headers."""
    async with serve(tmp_path, ServeRoleSettings(log=LOG, http=HttpSettings(requests_per_address=3))) as serving:
        replies = [await serving.get(target) for target in (LIST, "/nothing", "/window", LIST)]
        assert [reply.status for reply in replies] == [200, 404, 200, 429]
        assert [reply.headers["ratelimit-remaining"] for reply in replies] == ["2", "1", "0", "0"]
        refused = replies[-1]
        assert refused.json["error"] == "RateLimitExceeded"
        assert int(refused.headers["retry-after"]) > 0
        assert "RateLimit-Remaining" in refused.headers["access-control-expose-headers"]
        assert (await serving.get(LIST, **{"X-Forwarded-For": "203.0.113.9"})).status == 200


@pytest.mark.parametrize("target", ["/_health", "/xrpc/_health", "/_ready"])
async def test_health_checks_and_preflights_and_the_stream_are_not_counted(tmp_path: Path, target: str) -> None:
    """The stream has places of its own; a balancer that asks every second must not be refused."""
    async with serve(tmp_path, ServeRoleSettings(log=LOG, http=HttpSettings(requests_per_address=1))) as serving:
        for _ in range(3):
            reply = await serving.get(target)
            assert reply.status == 200
            assert "ratelimit-limit" not in reply.headers
            assert (await request(serving.port, "OPTIONS", LIST)).status == 204
            async with connect(serving.port):
                pass
        assert (await serving.get(LIST)).status == 200
