"""`/explain`: what owners are told of their host and account, and how often."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from relay.crawl.settings import HostSettings
from relay.net.exchange import Request
from relay.protocol.multikey import PublicKey
from relay.protocol.syntax import format_datetime
from relay.serve.explain import ANSWERS_BURST, Explanations, describe_account, describe_host
from relay.store.batch import Batch, DropNote, HostMark
from relay.store.hosts import HostRow
from relay.verify.chain import AccountState
from relay.verify.identity import Identity
from relay.verify.reasons import explain
from relay.verify.verdict import Reason
from tests.support.log_writer import HOSTNAME, START_MS, did_of
from tests.support.serving import Serving, request, serve

REV = "3kxyz2abcde2a"
KEY = PublicKey("k256", b"\x02" * 33)
HOST = HostRow(host_id=1, hostname=HOSTNAME, accepted=5)
ACCOUNT = AccountState(version=3, host_id=1, rev=REV, data=b"d" * 32, commit=b"c" * 32, upstream_seq=77)
IDENTITY = Identity(did_of(1), KEY, HOSTNAME, START_MS)


def told_of(account: AccountState = ACCOUNT, identity: Identity | None = IDENTITY, host: HostRow = HOST) -> str:
    summary = describe_account(did_of(1), account, identity, host, [])["summary"]
    assert isinstance(summary, str)
    return summary


async def test_a_host_is_told_what_becomes_of_its_events(tmp_path: Path) -> None:
    """State, mode, limits, place and counts, and the last drops with the rule and its source."""
    async with serve(tmp_path) as serving:
        host = serving.log.host
        serving.log.put_account(did_of(1), AccountState(host_id=host.host_id))
        note = DropNote(host.host_id, None, Reason.REV_IN_FUTURE, "by an hour", REV, 88, START_MS + 5)
        mark = HostMark(host.host_id, 0, 90, START_MS + 60_000, accepted=3, dropped={Reason.REV_IN_FUTURE: 2, "old": 9})
        serving.store.append(Batch(START_MS, marks=(mark,), notes=(note,)))
        serving.store.append(Batch(START_MS, marks=(HostMark(host.host_id, 0, 91, START_MS + 70_000),)))
        serving.now_ms = START_MS + 100_000
        reply = await serving.get(f"/explain/host?hostname=https://{HOSTNAME.upper()}/")

    answer = reply.json
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert (answer["hostname"], answer["status"], answer["accounts"]) == (HOSTNAME, "active", 1)
    assert (answer["cursor"], answer["cursorLag"]["secondsAgo"]) == (91, 30)
    assert answer["firstAccepted"] == answer["lastAccepted"] == format_datetime(START_MS + 60_000)
    assert answer["cursorLag"]["lastEventReceived"] == format_datetime(START_MS + 70_000)
    assert answer["limits"] == {"tier": "default", "accounts": 100, "eventsPerSecond": 50}
    assert answer["mode"]["name"] == "strict"
    assert [entry["reason"] for entry in answer["dropped"]] == ["old", "rev_in_future"]
    assert answer["dropped"][1]["means"] == explain(Reason.REV_IN_FUTURE)
    assert answer["lastDrops"] == [
        {
            "time": format_datetime(START_MS + 5),
            "reason": "rev_in_future",
            "means": explain(Reason.REV_IN_FUTURE),
            "detail": "by an hour",
            "rev": REV,
            "seq": 88,
        }
    ]


async def test_an_account_is_told_its_state_and_its_drops(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        host = serving.log.host
        serving.log.put_account(did_of(1), ACCOUNT._replace(host_id=host.host_id, local_status="takendown"))
        note = DropNote(host.host_id, did_of(1), Reason.ACCOUNT_TAKENDOWN, "", REV, 78, START_MS)
        serving.store.append(Batch(START_MS, identities=(IDENTITY,), notes=(note,)))
        reply = await serving.get(f"/explain/account?did={did_of(1)}")

    answer = reply.json
    assert reply.status == 200
    assert (answer["active"], answer["status"], answer["statusHere"]) == (False, "takendown", "takendown")
    assert answer["statusAtHost"] == {"active": True, "status": None}
    assert answer["host"] == {"hostname": HOSTNAME, "status": "active", "lastAcceptedSeq": 77}
    assert answer["identity"]["pds"] == HOSTNAME
    assert answer["rev"] == REV
    assert [drop["reason"] for drop in answer["lastDrops"]] == ["account_takendown"]


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("/explain/host?hostname=nobody.example.com", 404, "HostNotFound"),
        ("/explain/host", 400, "InvalidRequest"),
        ("/explain/host?hostname=" + "x" * 300, 400, "InvalidRequest"),
        (f"/explain/account?did={did_of(404)}", 404, "AccountNotFound"),
        ("/explain/account?did=nonsense", 400, "InvalidRequest"),
    ],
)
async def test_what_is_not_known_is_said_in_words(tmp_path: Path, target: str, status: int, error: str) -> None:
    async with serve(tmp_path) as serving:
        reply = await serving.get(target)
        assert (reply.status, reply.json["error"]) == (status, error)
        assert reply.json["message"]


async def test_an_address_gets_so_many_answers(tmp_path: Path) -> None:
    """Checklist 248: 429 with Retry-After, for that address alone."""
    async with serve(tmp_path) as serving:
        target = f"/explain/host?hostname={HOSTNAME}"
        statuses = [await _status(serving, target, "192.0.2.1") for _ in range(ANSWERS_BURST + 5)]
        assert statuses[:ANSWERS_BURST] == [200] * ANSWERS_BURST
        reply = await request(serving.port, "GET", target, headers={"X-Forwarded-For": "192.0.2.1"})
        assert (reply.status, reply.json["error"]) == (429, "RateLimitExceeded")
        assert int(reply.headers["retry-after"]) >= 1
        assert await _status(serving, target, "192.0.2.2") == 200


async def _status(serving: Serving, target: str, client: str) -> int:
    return (await request(serving.port, "GET", target, headers={"X-Forwarded-For": client})).status


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "reads the stream"),
        ({"last_error": "connection refused"}, "connection refused"),
        ({"accepted": 0}, "Nothing of it has been accepted yet"),
        ({"status": "idle"}, "future"),
        ({"status": "offline"}, "requestCrawl"),
        ({"status": "throttled"}, "limits"),
        ({"status": "banned"}, "banned"),
    ],
)
def test_a_host_is_summed_up_in_a_sentence(changes: dict[str, Any], expected: str) -> None:
    row = HostRow(**{"host_id": 1, "hostname": HOSTNAME, "accepted": 5, **changes})
    summary = describe_host(row, [], HostSettings(), "ratchet", START_MS)["summary"]
    assert expected in str(summary)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "strict"),
        ({"known_at_install": True}, "ratchet"),
        ({"known_at_install": True, "proven": True}, "strict"),
        ({"mode": "lenient"}, "lenient"),
    ],
)
def test_the_mode_shown_is_the_one_in_force(fields: dict[str, Any], name: str) -> None:
    row = HostRow(host_id=1, hostname=HOSTNAME, **fields)
    mode = describe_host(row, [], HostSettings(), "ratchet", START_MS)["mode"]
    assert isinstance(mode, dict)
    assert mode["name"] == name


def test_an_account_is_told_the_first_thing_in_its_way() -> None:
    """Local status, then the DID, then the host's word, then the document, then the host."""
    other = IDENTITY._replace(host="new.example.com")
    gone = IDENTITY._replace(tombstone=True, host=None, key=None)
    offline = HostRow(host_id=1, hostname=HOSTNAME, status="offline")
    asleep = ACCOUNT._replace(upstream_active=False, upstream_status="deactivated")

    assert "operator" in told_of(asleep._replace(local_status="suspended"))
    assert "room" in told_of(ACCOUNT._replace(local_status="throttled"))
    assert "deleted at its directory" in told_of(asleep, gone)
    assert "deactivated" in told_of(asleep)
    assert "#atproto_pds" in told_of(identity=IDENTITY._replace(host=None))
    assert "signing key" in told_of(identity=IDENTITY._replace(key=None))
    assert "new.example.com" in told_of(identity=other)
    assert "could not be reached" in told_of(host=offline)
    assert "no commit" in told_of(ACCOUNT._replace(rev=""))
    assert told_of() == told_of(identity=None) == "The account is in order."


async def test_the_budget_comes_back(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        explanations = Explanations(serving.store, HostSettings(), "ratchet", now_ms=lambda: START_MS)
        asked = _asked("192.0.2.9")
        for _ in range(ANSWERS_BURST):
            explanations._check_budget(asked)
        with pytest.raises(Exception, match="429"):
            explanations._check_budget(asked)
        await trio.sleep(1)
        explanations._check_budget(asked)


def _asked(client: str) -> Request:
    return Request("GET", "/explain/host", (), {}, b"", client)
