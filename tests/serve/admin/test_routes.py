"""Every admin route of the reference relay: its path, parameters, JSON keys and what it does, over a real worker."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from relay.net.connection import Site
from relay.net.exchange import Request, Response, json_response
from relay.net.server import serve_http
from relay.protocol.frame import MessageFrame, parse_frame
from relay.serve.settings import OperatorSettings
from relay.store.policy import NEW_PER_DAY, REQUEST_CRAWL
from relay.world.host import SimulatedHost
from tests.support.fake_consumer import seq_of
from tests.support.log_writer import HOSTNAME
from tests.support.operating import DID, SETTINGS, Desk, basic, operating
from tests.support.until import until

OK = {"success": "true"}
UNKNOWN_DID = "did:plc:" + "z" * 24
ALERT_SENT = {
    "kind": "warning",
    "hostID": 9,
    "hostname": HOSTNAME,
    "accountCount": 90,
    "accountLimit": 100,
    "usage": 0.9,
    "sentAt": "2026-01-31T00:00:00Z",
}


class Case(NamedTuple):
    """One request, the whole answer, and what has to be so afterwards."""

    name: str
    method: str
    path: str
    body: Any
    status: int
    answer: Any
    after: Callable[[Desk], bool] = lambda _desk: True


def policy(name: str, value: bytes) -> Callable[[Desk], bool]:
    def check(desk: Desk) -> bool:
        with desk.store.view() as view:
            return view.policy_value(name) == value

    return check


def status_is(status: str) -> Callable[[Desk], bool]:
    return lambda desk: bool(desk.host().status == status)


CASES = [
    Case("connections", "GET", "subs/getUpstreamConns", None, 200, []),
    Case("kill unknown", "POST", "subs/killUpstream?host=nobody.example.com", None, 404, "HostNotFound"),
    Case("kill no name", "POST", "subs/killUpstream?host=http://1.2.3.4/x", None, 400, "BadRequest"),
    Case("kill nothing", "POST", "subs/killUpstream", None, 400, "InvalidRequest"),
    Case("kill idle", "POST", f"subs/killUpstream?host={HOSTNAME}", None, 400, "InvalidRequest"),
    Case("kill odd", "POST", f"subs/killUpstream?host={HOSTNAME}&block=maybe", None, 400, "InvalidRequest"),
    Case("kill, ban", "POST", f"subs/killUpstream?host={HOSTNAME}&block=true", None, 200, OK, status_is("banned")),
    Case("enabled", "GET", "subs/getEnabled", None, 200, {"enabled": True}),
    Case("disable", "POST", "subs/setEnabled?enabled=false", None, 200, OK, policy(REQUEST_CRAWL, b"false")),
    Case("disable odd", "POST", "subs/setEnabled?enabled=perhaps", None, 400, "InvalidRequest"),
    Case("disable nothing", "POST", "subs/setEnabled", None, 400, "InvalidRequest"),
    Case("per day", "GET", "subs/perDayLimit", None, 200, {"limit": 7}),
    Case("set per day", "POST", "subs/setPerDayLimit?limit=12", None, 200, OK, policy(NEW_PER_DAY, b"12")),
    Case("per day odd", "POST", "subs/setPerDayLimit?limit=-1", None, 400, "InvalidRequest"),
    Case("no bans", "GET", "subs/listDomainBans", None, 200, {"banned_domains": [], "bans": []}),
    Case("ban domain", "POST", "subs/banDomain", {"Domain": "Example.com"}, 200, OK, status_is("banned")),
    Case("ban, lower key", "POST", "subs/banDomain", {"domain": "example.org"}, 200, OK, status_is("active")),
    Case("ban nothing", "POST", "subs/banDomain", {}, 400, "InvalidRequest"),
    Case("ban a path", "POST", "subs/banDomain", {"Domain": "example.com/x"}, 400, "InvalidRequest"),
    Case("ban no JSON", "POST", "subs/banDomain", b"{", 400, "InvalidRequest"),
    Case("unban unknown", "POST", "subs/unbanDomain", {"Domain": "example.net"}, 404, "NotFound"),
    Case("no takedowns", "GET", "repo/takedowns", None, 200, {"dids": [], "takedowns": []}),
    Case("bad page", "GET", "repo/takedowns?cursor=%21", None, 400, "InvalidRequest"),
    Case(
        "take down", "POST", "repo/takeDown", {"did": DID}, 200, OK, lambda d: d.account().local_status == "takendown"
    ),
    Case("take down unknown", "POST", "repo/takeDown", {"did": UNKNOWN_DID}, 404, "RepoNotFound"),
    Case("take down nobody", "POST", "repo/takeDown", {"did": "alice"}, 400, "InvalidRequest"),
    Case("take down nothing", "POST", "repo/takeDown", {}, 400, "InvalidRequest"),
    Case("restore", "POST", "repo/reverseTakedown", {"did": DID}, 200, OK),
    Case("restore unknown", "POST", "repo/reverseTakedown", {"did": UNKNOWN_DID}, 404, "RepoNotFound"),
    Case("add again", "POST", "pds/requestCrawl", {"hostname": HOSTNAME}, 200, OK),
    Case("add nobody", "POST", "pds/requestCrawl", {"hostname": "http://localhost:1"}, 400, "HostNotFound"),
    Case("add a path", "POST", "pds/requestCrawl", {"hostname": "https://a.example.com/x"}, 400, "BadRequest"),
    Case("add nothing", "POST", "pds/requestCrawl", {}, 400, "InvalidRequest"),
    Case(
        "limit",
        "POST",
        "pds/changeLimits",
        {"host": HOSTNAME, "repo_limit": 5},
        200,
        OK,
        lambda d: d.host().account_limit == 5,
    ),
    Case("limit, old keys", "POST", "pds/changeLimits", {"host": HOSTNAME, "repo_limit": 6, "per_second": 1}, 200, OK),
    Case("silence", "POST", "pds/changeLimits", {"host": HOSTNAME, "account_limit_alerts_silenced": True}, 200, OK),
    Case("limit nothing", "POST", "pds/changeLimits", {"host": HOSTNAME}, 400, "InvalidRequest"),
    Case("limit below 0", "POST", "pds/changeLimits", {"host": HOSTNAME, "repo_limit": -1}, 400, "InvalidRequest"),
    Case("limit of none", "POST", "pds/changeLimits", {"host": "x.example.net", "repo_limit": 1}, 404, "HostNotFound"),
    Case("limit of no name", "POST", "pds/changeLimits", {"host": "//", "repo_limit": 1}, 400, "BadRequest"),
    Case("block", "POST", f"pds/block?host={HOSTNAME}", None, 200, OK, status_is("banned")),
    Case("block by URL", "POST", f"pds/block?host=https://{HOSTNAME}", None, 200, OK, status_is("banned")),
    Case("block unknown", "POST", "pds/block?host=nobody.example.com", None, 404, "HostNotFound"),
    Case("unblock", "POST", f"pds/unblock?host={HOSTNAME}", None, 200, OK, status_is("active")),
    Case("consumers", "GET", "consumers/list", None, 200, []),
    Case("kick unknown", "POST", "consumers/kick", {"id": 99}, 404, "ConsumerNotFound"),
    Case("wrong verb", "GET", "pds/block", None, 405, "MethodNotAllowed"),
    Case("wrong verb 2", "POST", "pds/list", None, 405, "MethodNotAllowed"),
    Case("no such path", "GET", "pds/dance", None, 404, "NotFound"),
    Case("alert", "POST", "alerts/accountLimitSent", ALERT_SENT, 200, OK),
    Case("alert, half", "POST", "alerts/accountLimitSent", {"kind": "warning"}, 400, "InvalidRequest"),
    Case("alert, odd", "POST", "alerts/accountLimitSent", ALERT_SENT | {"kind": "x"}, 400, "InvalidRequest"),
    Case("alert, year 0", "POST", "alerts/accountLimitSent", ALERT_SENT | {"sentAt": "0000-01-01T00:00:00Z"}, 200, OK),
    Case("alert, no time", "POST", "alerts/accountLimitSent", ALERT_SENT | {"sentAt": "soon"}, 400, "InvalidRequest"),
    Case("alert, id 0", "POST", "alerts/accountLimitSent", ALERT_SENT | {"hostID": 0}, 400, "InvalidRequest"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_route_answers_and_does_as_documented(case: Case, tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        reply = await (desk.get(case.path) if case.method == "GET" else desk.post(case.path, case.body))

        assert reply.status == case.status, reply.body
        assert (reply.json["error"] if case.status >= 400 else reply.json) == case.answer
        assert case.after(desk)


async def test_an_operator_adds_a_host_whatever_the_public_may(tmp_path: Path, nursery: trio.Nursery) -> None:
    """No switch and no budget holds; the host has to answer as a PDS, and to be under no ban."""
    host = SimulatedHost()
    await nursery.start(host.serve)
    name = host.url.removeprefix("http://")
    async with operating(tmp_path) as desk:
        await desk.post("subs/setEnabled?enabled=false")
        await desk.post("subs/setPerDayLimit?limit=0")
        assert (await desk.post("pds/requestCrawl", {"hostname": host.url})).json == OK
        assert (desk.host(name).status, desk.host(name).insecure) == ("idle", True)
        assert not desk.host(name).requested

        await desk.post(f"pds/block?host={host.url}")
        assert (await desk.post("pds/requestCrawl", {"hostname": host.url})).json["error"] == "HostBanned"
        await desk.post(f"pds/unblock?host={name}")
        assert desk.host(name).status == "idle"
    nursery.cancel_scope.cancel()


async def test_siblings_are_told_what_concerns_them_too(tmp_path: Path, nursery: trio.Nursery) -> None:
    """With the password and a mark against loops; a request that came from a relay is not sent on."""
    told: list[Request] = []

    async def answer(request: Request) -> Response:
        told.append(request)
        return json_response(200, {})

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(serve_http, listeners, Site(answer))
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with operating(tmp_path, replace(SETTINGS, siblings=(url,))) as desk:
        await desk.post("subs/setEnabled?enabled=false")
        await desk.post("repo/takeDown", {"did": UNKNOWN_DID})
        await desk.post("repo/takeDown", {"did": DID}, Via="1.1 atproto-relay")
        await desk.post(f"pds/block?host={HOSTNAME}")
        await until(lambda: bool(told))
    (request,) = told

    assert (request.method, request.path, request.query) == ("POST", "/admin/pds/block", (("host", HOSTNAME),))
    assert request.headers["authorization"] == basic()["Authorization"]
    assert "atproto-relay" in request.headers["via"]
    nursery.cancel_scope.cancel()


async def test_the_list_of_hosts_has_the_keys_of_the_reference(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        (pds,) = (await desk.get("pds/list")).json

    assert pds == {
        "ID": 1,
        "CreatedAt": "2026-09-21T14:13:20.000Z",
        "Host": HOSTNAME,
        "SSL": True,
        "Cursor": -1,
        "Registered": True,
        "Blocked": False,
        "CrawlRateLimit": 0,
        "RepoCount": 1,
        "RepoLimit": 100,
        "HasActiveConnection": False,
        "EventsSeenSinceStartup": 0,
        "PerSecondEventRate": {"Max": -1, "Window": 1},
        "PerHourEventRate": {"Max": -1, "Window": 3600},
        "PerDayEventRate": {"Max": -1, "Window": 86400},
        "UserCount": 1,
        "AccountLimitAlertsSilenced": False,
        "AccountLimitAlertState": "",
        "AccountLimitAlertSentAt": None,
    }


async def test_a_connected_host_is_listed_and_its_connection_can_be_ended(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        desk.store.update_hosts({1: {"connected_ms": 1}})

        assert (await desk.get("subs/getUpstreamConns")).json == [HOSTNAME]
        assert (await desk.post(f"subs/killUpstream?host={HOSTNAME}&block=false")).json == OK
        assert desk.host().reconnect_ms > 0


async def test_an_alert_of_a_sibling_is_remembered_unless_an_older_one(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        older = ALERT_SENT | {"kind": "recovery", "sentAt": "2026-01-30T00:00:00Z"}
        for body in (ALERT_SENT, older):
            await desk.post("alerts/accountLimitSent", body)
        await desk.post("pds/changeLimits", {"host": HOSTNAME, "account_limit_alerts_silenced": True})
        (pds,) = (await desk.get("pds/list")).json

    assert (pds["AccountLimitAlertState"], pds["AccountLimitAlertsSilenced"]) == ("warning", True)
    assert pds["AccountLimitAlertSentAt"] == "2026-01-31T00:00:00.000Z"


async def test_what_was_decided_survives_a_restart(tmp_path: Path) -> None:
    """Checklist 266: bans of hosts and domains, limits, takedowns, switches, the audit log."""
    decisions = [
        ("subs/banDomain", {"Domain": "example.org"}),
        (f"pds/block?host={HOSTNAME}", None),
        ("pds/changeLimits", {"host": HOSTNAME, "repo_limit": 5}),
        ("repo/takeDown", {"did": DID}),
        ("subs/setEnabled?enabled=false", None),
        ("subs/setPerDayLimit?limit=3", None),
    ]
    async with operating(tmp_path) as desk:
        desk.add("a.b.example.org")
        for path, body in decisions:
            assert (await desk.post(path, body)).json == OK

    async with operating(tmp_path) as desk:
        assert (await desk.get("subs/listDomainBans")).json["banned_domains"] == ["example.org"]
        assert (desk.host().status, desk.host("a.b.example.org").status) == ("banned", "banned")
        assert (await desk.get(f"host?hostname={HOSTNAME}")).json["accountLimit"] == 5
        assert (await desk.get("repo/takedowns")).json["dids"] == [DID]
        assert (await desk.get("subs/getEnabled")).json == {"enabled": False}
        assert (await desk.get("subs/perDayLimit")).json == {"limit": 3}
        actions = [entry["action"] for entry in (await desk.get("audit")).json["entries"]]

    assert actions == [path.partition("?")[0] for path, _ in reversed(decisions)]


async def test_the_end_of_a_domain_ban_frees_whom_it_banned(tmp_path: Path) -> None:
    """Not a host that was banned for itself, nor one that lies under another ban."""
    hosts = ["a.example.org", "b.example.org", "c.sub.example.org"]
    async with operating(tmp_path) as desk:
        for name in hosts:
            desk.add(name)
        await desk.post("pds/block?host=a.example.org")
        for domain in ("example.org", "sub.example.org"):
            await desk.post("subs/banDomain", {"Domain": domain})
        assert [desk.host(name).status for name in hosts] == ["banned"] * 3
        assert (await desk.post("pds/unblock?host=b.example.org")).json["error"] == "HostBanned"
        assert (await desk.post("pds/requestCrawl", {"hostname": "d.example.org"})).json["error"] == "HostBanned"

        await desk.post("subs/unbanDomain", {"Domain": "example.org"})
        assert [desk.host(name).status for name in hosts] == ["banned", "idle", "banned"]

        await desk.post("subs/unbanDomain", {"Domain": "sub.example.org"})
        assert [desk.host(name).status for name in hosts] == ["banned", "idle", "idle"]


async def test_a_host_blocked_under_a_domain_ban_stays_blocked_when_that_ends(tmp_path: Path) -> None:
    """It was banned with its domain already, so the operator's word shows in nothing but what comes after."""
    hosts = ["a.example.org", "b.example.org", "c.example.org"]
    async with operating(tmp_path) as desk:
        for name in hosts:
            desk.add(name)
        await desk.post("subs/banDomain", {"Domain": "example.org"})
        await desk.post("pds/block?host=a.example.org")
        await desk.post("subs/killUpstream?host=b.example.org&block=true")
        await desk.post("subs/banDomain", {"Domain": "example.org"})
        await desk.post("subs/unbanDomain", {"Domain": "example.org"})
        assert [desk.host(name).status for name in hosts] == ["banned", "banned", "idle"]

        assert (await desk.post("pds/unblock?host=a.example.org")).json == OK
        assert desk.host("a.example.org").status == "idle"


async def test_a_takedown_asked_for_again_keeps_the_record_of_its_purge(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        await desk.post("repo/takeDown", {"did": DID, "purge": True})
        (entry,) = (await desk.get("repo/takedowns")).json["takedowns"]
        await desk.post("repo/takeDown", {"did": DID})
        assert (await desk.get("repo/takedowns")).json["takedowns"] == [entry]
        assert (entry["purge"], entry["purged"]["finished"]) == (True, None)


async def test_a_takedown_is_told_to_consumers_and_so_is_its_end(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk, desk.serving.connect() as consumer:
        await desk.post("repo/takeDown", {"did": DID})
        await desk.post("repo/takeDown", {"did": DID})
        taken = parse_frame((await consumer.frames(1))[0])
        await desk.post("repo/reverseTakedown", {"did": DID})
        restored = parse_frame((await consumer.frames(1))[0])

    assert isinstance(taken, MessageFrame)
    assert isinstance(restored, MessageFrame)
    assert (taken.type, taken.payload["did"], taken.payload["active"], taken.payload["status"]) == (
        "#account",
        DID,
        False,
        "takendown",
    )
    assert (restored.payload["active"], restored.payload.get("status")) == (True, None)
    assert restored.payload["seq"] == taken.payload["seq"] + 1


async def test_takedowns_come_in_pages(tmp_path: Path) -> None:
    async with operating(tmp_path, replace(SETTINGS, operator=OperatorSettings(takedowns_per_page=2))) as desk:
        dids = sorted(f"did:plc:{letter * 24}" for letter in "bcd")
        for did in dids:
            desk.serving.log.put_account(did, desk.account()._replace(version=0))
            await desk.post("repo/takeDown", {"did": did})

        first = (await desk.get("repo/takedowns")).json
        second = (await desk.get(f"repo/takedowns?cursor={first['cursor']}")).json

    assert (first["dids"], second["dids"]) == (dids[:2], dids[2:])
    assert "cursor" not in second


async def test_consumers_are_listed_and_sent_away(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk, desk.serving.connect("?cursor=0") as consumer:
        (frame,) = await consumer.frames(1)
        (listed,) = (await desk.get("consumers/list")).json
        assert {"id", "remote_addr", "user_agent", "events_consumed", "connected_at"} <= set(listed)
        assert (listed["position"], listed["worker"]) == (seq_of(frame), 0)

        assert (await desk.post("consumers/kick", {"id": listed["id"]})).json == OK
        assert (await consumer.receive()).code == 1008  # type: ignore[union-attr]  # the end, not a frame
