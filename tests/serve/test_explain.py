"""`/explain`: what owners are told of their host and account, and how often."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from relay.crawl.hoststate import Ending
from relay.net.exchange import Request
from relay.protocol.multikey import PublicKey
from relay.protocol.syntax import format_datetime
from relay.serve.explain import ANSWERS_BURST, Explanations
from relay.serve.explainaccount import Known, describe_account
from relay.serve.explainhost import QUIET_SECONDS, describe_host
from relay.serve.settings import ServeRoleSettings
from relay.store.batch import Batch, DropNote, HostMark
from relay.store.hosts import HostRow
from relay.store.policy import DOMAIN_BAN, DomainBan, encoded
from relay.verify.facts import AccountState, Identity
from relay.verify.reasons import explain
from relay.verify.verdict import Reason
from tests.support.log_writer import HOSTNAME, START_MS, did_of
from tests.support.serving import LOG, Serving, request, serve

REV = "3kxyz2abcde2a"
KEY = PublicKey("k256", b"\x02" * 33)
CONTACT = "mailto:relay@example.org"
SETTINGS = ServeRoleSettings(log=LOG, contact=CONTACT)
HOST = HostRow(host_id=1, hostname=HOSTNAME, accepted=5, connected_ms=START_MS)
ACCOUNT = AccountState(version=3, host_id=1, rev=REV, data=b"d" * 32, commit=b"c" * 32, upstream_seq=77)
IDENTITY = Identity(did_of(1), KEY, HOSTNAME, START_MS)


def told_of(account: AccountState = ACCOUNT, identity: Identity | None = IDENTITY, host: HostRow = HOST) -> str:
    summary = describe_account(did_of(1), Known(account, identity, host, [], {}), SETTINGS, START_MS)["summary"]
    assert isinstance(summary, str)
    return summary


async def test_a_host_is_told_what_becomes_of_its_events(tmp_path: Path) -> None:
    """State, mode, limits, place and counts, and the last drops with the rule and its source."""
    async with serve(tmp_path, SETTINGS) as serving:
        host = serving.log.host
        serving.log.put_account(did_of(1), AccountState(host_id=host.host_id))
        note = DropNote(host.host_id, None, Reason.REV_IN_FUTURE, "by an hour", REV, 88, START_MS + 5)
        mark = HostMark(host.host_id, 0, 90, START_MS + 60_000, accepted=3, dropped={Reason.REV_IN_FUTURE: 2, "old": 9})
        serving.store.append(Batch(START_MS, marks=(mark,), notes=(note,)))
        serving.store.append(Batch(START_MS, marks=(HostMark(host.host_id, 0, 91, START_MS + 70_000),)))
        serving.now_ms = START_MS + 100_000
        reply = await serving.get(f"/explain/host?hostname=https://{HOSTNAME.upper()}/")

        serving.now_ms = START_MS
        early = await serving.get(f"/explain/host?hostname={HOSTNAME}")

    assert early.json["cursorLag"]["secondsAgo"] == 0  # our clock was set back since
    answer = reply.json
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert (answer["hostname"], answer["status"], answer["accounts"]) == (HOSTNAME, "active", 1)
    assert (answer["cursor"], answer["cursorLag"]["secondsAgo"]) == (91, 30)
    assert answer["firstAccepted"] == answer["lastAccepted"] == format_datetime(START_MS + 60_000)
    assert answer["cursorLag"]["lastEventReceived"] == format_datetime(START_MS + 70_000)
    assert answer["limits"] == {
        "tier": "default",
        "accounts": 100,
        "eventsPerSecond": 50,
        "eventsPerHour": 2_600,
        "eventsPerDay": 21_000,
    }
    assert answer["contact"] == CONTACT
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
    (drop,) = answer["lastDrops"]
    assert (drop["reason"], drop["sentBy"]) == ("account_takendown", HOSTNAME)
    assert drop["means"] == explain(Reason.ACCOUNT_TAKENDOWN)


async def test_an_account_is_told_which_other_host_spoke_in_its_name(tmp_path: Path) -> None:
    """Its owner did nothing wrong, and is told so."""
    async with serve(tmp_path) as serving:
        other = serving.store.add_host("evil.example.com", insecure=False, now_ms=START_MS)
        serving.log.put_account(did_of(1), ACCOUNT._replace(host_id=serving.log.host.host_id))
        note = DropNote(other.host_id, did_of(1), Reason.HOST_MISMATCH, f"names {HOSTNAME}", "", 3, START_MS)
        serving.store.append(Batch(START_MS, notes=(note,)))
        reply = await serving.get(f"/explain/account?did={did_of(1)}")

    (drop,) = reply.json["lastDrops"]
    assert drop["sentBy"] == "evil.example.com"
    assert drop["means"].startswith("evil.example.com sent this, and not the account's own host.")
    assert drop["means"].endswith(explain(Reason.HOST_MISMATCH))


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
        ({}, "This relay reads the stream of the host."),
        ({"connected_ms": START_MS - QUIET_SECONDS * 1_000 - 1}, "nothing has come since"),
        ({"connected_ms": 0}, "about to connect"),
        ({"connected_ms": 0, "last_ending": Ending.UNREACHABLE, "last_error": "no route"}, "ended (no route)"),
        ({"accepted": 0}, "Nothing of it has been accepted yet."),
        ({"accepted": 0, "dropped": {"old": 1, "schema": 9}}, explain(Reason.SCHEMA)),
        ({"status": "idle", "accepted": 0}, "has not been tried yet"),
        ({"status": "idle", "cursor": 5}, "about to connect"),  # after a ban
        ({"status": "idle", "last_ending": Ending.FUTURE_CURSOR}, "our place in its stream lies in its future"),
        ({"status": "idle", "last_ending": Ending.SEQ_BEHIND}, "from before our place in its stream"),
        ({"status": "idle", "last_ending": Ending.RELAY}, "is a relay"),
        ({"connected_ms": 0, "last_ending": Ending.FRAMING}, "returns to the same place"),
        ({"status": "offline", "last_ending": Ending.FRAMING}, "no floats"),
        ({"status": "idle", "last_ending": Ending.REFUSED, "last_error": "HTTP status 302"}, "ended (HTTP status 302)"),
        ({"status": "idle", "last_ending": "of another version"}, "attempt to read the host ended;"),
        ({"status": "offline"}, "lists the host as offline"),
        ({"status": "offline", "last_ending": Ending.REFUSED, "last_error": "HTTP status 302"}, "(HTTP status 302)"),
        ({"status": "offline", "last_ending": Ending.UNREACHABLE}, "a requestCrawl makes that now"),
        ({"status": "throttled", "last_error": "over its limit of 20 events an hour"}, "limit of 20 events an hour"),
        ({"status": "throttled", "since_ms": START_MS}, f"on this relay since {format_datetime(START_MS)}."),
        ({"status": "throttled"}, CONTACT),
        ({"status": "banned"}, "has banned the host"),
        ({"status": "banned"}, CONTACT),
        ({"throttled_count": 3}, "over its limit of 100 accounts on this relay: 3 wait."),
        (
            {"throttled_count": 3, "over_quota_ms": START_MS},
            f"on this relay since {format_datetime(START_MS)}: 3 wait.",
        ),
        ({"throttled_count": 3}, CONTACT),
    ],
)
def test_a_host_is_summed_up_in_a_sentence(changes: dict[str, Any], expected: str) -> None:
    """What happened last decides where a status has several causes; a limit is named, since when, and whom to ask."""
    row = msgspec.structs.replace(HOST, **changes)
    assert expected in str(describe_host(row, [], SETTINGS, START_MS)["summary"])


def test_a_host_without_trouble_is_told_of_none() -> None:
    told = describe_host(HOST, [], SETTINGS, START_MS)
    absent = ("limitReached", "overQuotaSince", "possibleGap", "restarts", "behindSeconds", "lastError")
    assert {name: told[name] for name in absent} == dict.fromkeys(absent)
    assert told["waitingAccounts"] == 0


def test_the_limit_that_is_hit_and_since_when() -> None:
    """A rate, else the account quota."""
    row = msgspec.structs.replace(HOST, throttled_count=3, over_quota_ms=START_MS)
    told = describe_host(row, [], SETTINGS, START_MS)
    since = format_datetime(START_MS)
    assert (told["waitingAccounts"], told["overQuotaSince"]) == (3, since)
    assert told["limitReached"] == {"which": "over its limit of 100 accounts", "since": since}

    over = "over its limit of 9 events a day"
    row = msgspec.structs.replace(row, status="throttled", since_ms=START_MS + 1_000, last_error=over)
    told = describe_host(row, [], SETTINGS, START_MS)
    assert told["limitReached"] == {"which": over, "since": format_datetime(START_MS + 1_000)}


def test_what_may_be_missing_of_a_host_is_told() -> None:
    """Gaps with their time, and our place before the host's seqs began anew."""
    row = msgspec.structs.replace(
        HOST, possible_gap="SeqRestart", possible_gap_ms=START_MS, epoch=1, cursor_before=20, lag_ms=90_000
    )
    told = describe_host(row, [], SETTINGS, START_MS)
    assert told["possibleGap"] == {"name": "SeqRestart", "at": format_datetime(START_MS)}
    assert told["restarts"] == {"epoch": 1, "cursorBefore": 20}
    assert told["behindSeconds"] == 90


async def test_a_host_nobody_has_seen_under_a_banned_domain_is_not_sent_to_request_crawl(tmp_path: Path) -> None:
    """It would answer HostBanned."""
    async with serve(tmp_path, SETTINGS) as serving:
        serving.store.set_policy(DOMAIN_BAN + "eggs.internal", encoded(DomainBan()))
        reply = await serving.get("/explain/host?hostname=pds.eggs.internal")
        assert (reply.status, reply.json["error"]) == (400, "HostBanned")
        assert "eggs.internal" in reply.json["message"]
        assert CONTACT in reply.json["message"]
        assert "requestCrawl" not in reply.json["message"]


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
    mode = describe_host(row, [], SETTINGS, START_MS)["mode"]
    assert isinstance(mode, dict)
    assert mode["name"] == name


def test_an_account_is_told_the_first_thing_in_its_way() -> None:
    """Local status, then the DID, then the host's word, then the document, then the host."""
    other = IDENTITY._replace(host="new.example.com")
    gone = IDENTITY._replace(tombstone=True, host=None, key=None)
    offline = msgspec.structs.replace(HOST, status="offline", last_ending=Ending.UNREACHABLE)
    crowded = msgspec.structs.replace(HOST, throttled_count=2, account_limit=7)
    asleep = ACCOUNT._replace(upstream_active=False, upstream_status="deactivated")

    assert "operator" in told_of(asleep._replace(local_status="suspended"))
    assert "over its limit of 7 accounts" in told_of(ACCOUNT._replace(local_status="throttled"), host=crowded)
    assert CONTACT in told_of(ACCOUNT._replace(local_status="throttled"))
    assert "deleted at its directory" in told_of(asleep, gone)
    assert "deactivated" in told_of(asleep)
    assert "#atproto_pds" in told_of(identity=IDENTITY._replace(host=None))
    assert "signing key" in told_of(identity=IDENTITY._replace(key=None))
    assert "new.example.com" in told_of(identity=other)
    assert "have failed many times" in told_of(host=offline)
    assert "no commit" in told_of(ACCOUNT._replace(rev=""))
    assert told_of() == told_of(identity=None) == "The account is in order."


async def test_the_budget_comes_back(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        explanations = Explanations(serving.store, SETTINGS, now_ms=lambda: START_MS)
        asked = _asked("192.0.2.9")
        for _ in range(ANSWERS_BURST):
            explanations._check_budget(asked)
        with pytest.raises(Exception, match="429"):
            explanations._check_budget(asked)
        await trio.sleep(1)
        explanations._check_budget(asked)


def _asked(client: str) -> Request:
    return Request("GET", "/explain/host", (), {}, b"", client)
