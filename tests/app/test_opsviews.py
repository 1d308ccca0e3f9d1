"""What the operator's commands print on a terminal of 80 columns: what people look for is there, and nothing wraps."""

import re
from typing import Any

import msgspec
import pytest

from relay.app.opsviews import account_facts, account_table, consumer_table, host_facts, host_table
from relay.crawl.settings import HostSettings
from relay.serve.admin.hostviews import describe_note, host_details
from relay.store.batch import DropNote
from relay.store.hosts import HostRow
from tests.support.log_writer import START_MS, did_of

WIDTH = 80
SETTINGS = HostSettings()
ROW = HostRow(
    host_id=1,
    hostname="shiitake.us-east.host.bsky.network",
    status="throttled",
    connected_ms=START_MS,
    since_ms=START_MS,
    account_count=1_234_567,
    throttled_count=17,
    account_limit=2_000_000,
    rates={"per_hour": 70},
    cursor=9_007_199_254_740_993,
    cursor_before=88,
    epoch=2,
    accepted=1_234_567_890,
    dropped={"rev_not_newer": 12_345},
    last_event_ms=START_MS,
    last_error="the TLS handshake failed: certificate verify failed: unable to get local issuer certificate",
    possible_gap="OutdatedCursor",
    possible_gap_ms=START_MS,
    lag_ms=4 * 3_600_000,
)
NOTE = DropNote(1, did_of(1), "commit_cid_mismatch", "the root of the slice is another one " * 4, "3k", 7, START_MS)


def listed(row: HostRow) -> dict[str, Any]:
    return {**host_details(row, SETTINGS), "ratePerSecond": 123.4, "rates": []}


def check_fits(lines: list[str]) -> None:
    assert max(len(line) for line in lines) <= WIDTH


def test_a_list_of_hosts_keeps_what_is_looked_for() -> None:
    rows = [listed(ROW), listed(HostRow(host_id=2, hostname="x" * 253))]
    lines = host_table(rows, WIDTH)

    check_fits(lines)
    assert lines[0].split() == ["HOST", "STATUS", "EVENTS/S", "BEHIND", "DROPPED", "HEARD"]
    assert lines[1].split()[:5] == [ROW.hostname, "throttled", "123.4", "4h", "12,345"]
    assert " ".join(lines[2:4]).split() == ROW.last_error.split()
    assert lines[4].startswith("x" * 10)


def test_a_wide_terminal_and_a_script_get_everything() -> None:
    heads = ["HOST", "STATUS", "ACCOUNTS", "LIMIT", "EVENTS/S", "BEHIND", "ACCEPTED", "DROPPED", "HEARD"]

    assert host_table([listed(ROW)], 200)[0].split() == heads
    assert host_table([listed(ROW)], None)[0].split() == [*heads, "LAST", "ERROR"]
    assert host_table([listed(ROW)], None)[1].endswith(ROW.last_error)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lag_ms": 180_000, "connected_ms": START_MS}, "3m"),
        ({"lag_ms": 0, "connected_ms": START_MS}, "no"),
        ({"lag_ms": 0, "connected_ms": 0}, "-"),
    ],
)
def test_how_far_a_host_is_behind(changes: dict[str, Any], told: str) -> None:
    row = msgspec.structs.replace(ROW, **changes)

    assert host_table([listed(row)], None)[1].split()[5] == told


def test_a_host_is_told_with_everything_that_is_known() -> None:
    answer = {**listed(ROW), "domainBan": "bsky.network", "lastDrops": [describe_note(NOTE)]}
    lines = host_facts(answer, WIDTH)
    text = "\n".join(lines)

    check_fits(lines)
    for name, value in (
        ("connected", "yes"),
        ("domain ban", "bsky.network"),
        ("waiting for room", "17 of them"),
        ("tier", "default (by its name)"),
        ("events", "2,050 a second, 70 an hour (of this host)"),
        ("cursor", "9007199254740993"),
        ("earlier cursor", "88, given up at restart 2"),
        ("catching up", "4h behind"),
        ("possible gap", "OutdatedCursor, 2"),
    ):
        assert re.search(rf"^{name} +{re.escape(value)}", text, re.MULTILINE), name
    assert did_of(1) in text
    assert text.split()[-NOTE.detail.count(" ") :] == NOTE.detail.split()


def test_what_is_not_so_is_left_out() -> None:
    text = "\n".join(host_facts(listed(HostRow(host_id=2, hostname="a.example")), WIDTH))

    assert not re.search("possible gap|catching up|waiting|domain ban|earlier|LAST DROPS", text)


def test_accounts_keep_their_rev() -> None:
    account = {"did": did_of(1), "active": False, "status": "deactivated", "localStatus": "takendown"}
    account |= {"upstreamStatus": "deactivated", "rev": "3lkzofy3xkc2a"}
    lines = account_table([account], WIDTH)

    check_fits(lines)
    assert lines[1].split()[0] == did_of(1)
    assert lines[1].endswith("3lkzofy3xkc2a")


@pytest.mark.parametrize(
    ("purged", "told"),
    [
        ({"segments": 0, "segmentsDone": 0, "frames": 0, "finished": None}, "begins in a moment"),
        ({"segments": 3, "segmentsDone": 1, "frames": 0, "finished": None}, "segment 1 of 3 is done"),
        ({"segments": 3, "segmentsDone": 3, "frames": 1_000, "finished": "now"}, "done now, 1,000 frames replaced"),
    ],
)
def test_a_purge_is_told_in_words_and_drops_without_the_accounts_own_did(purged: dict[str, Any], told: str) -> None:
    account = dict.fromkeys(
        ("status", "localStatus", "upstreamStatus", "hostname", "rev", "commit", "data", "identity")
    )
    account |= {"did": did_of(1), "active": False, "upstreamActive": True, "lastDrops": [describe_note(NOTE)]}
    lines = account_facts({**account, "takedown": {"since": "then", "purged": purged}}, WIDTH)

    check_fits(lines)
    assert any(re.fullmatch(rf"purge +{re.escape(told)}", line) for line in lines)
    assert sum(did_of(1) in line for line in lines) == 1


def test_consumers_are_told_by_address_lag_and_agent() -> None:
    consumer = {"id": 70_000_001, "remote_addr": "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", "lag_seconds": 12.5}
    consumer |= {"connected_at": "2026-01-01T00:00:00Z", "events_consumed": 10**9, "worker": 1}
    lines = consumer_table([{**consumer, "user_agent": "an indexer that names itself at length/1.0 " * 3}], WIDTH)

    check_fits(lines)
    assert lines[0].split() == ["ID", "ADDRESS", "CONNECTED", "LAG", "S", "USER", "AGENT"]
