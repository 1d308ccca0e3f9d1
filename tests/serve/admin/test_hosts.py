"""Hosts for the dashboard and the commands: search, order, pages, one in detail, changes and their bounds."""

from pathlib import Path
from typing import Any

import pytest

from relay.store.batch import Batch, DropNote
from relay.store.policy import AUDIT_KEPT
from tests.support.log_writer import HOSTNAME
from tests.support.operating import DID, Desk, operating

NAMES = ("b.example.org", "a.example.org", "c.example.net")


async def names(desk: Desk, query: str) -> list[str]:
    reply = await desk.get(f"hosts?{query}")
    assert reply.status == 200, reply.body
    return [host["hostname"] for host in reply.json["hosts"]]


async def test_hosts_are_searched_sorted_and_paged(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        for name in NAMES:
            desk.add(name)
        desk.store.update_hosts(
            {
                2: {"accepted": 5, "lag_ms": 90_000},
                3: {"accepted": 50},
                4: {"accepted": 10, "dropped": {"schema": 1}, "lag_ms": 3_600_000},
            }
        )

        assert await names(desk, "") == ["a.example.org", "b.example.org", "c.example.net", HOSTNAME]
        assert await names(desk, "q=EXAMPLE.org") == ["a.example.org", "b.example.org"]
        assert await names(desk, "sort=accepted&order=desc&limit=2") == ["a.example.org", "c.example.net"]
        assert await names(desk, "sort=accepted&order=desc&limit=2&offset=2") == ["b.example.org", HOSTNAME]
        assert await names(desk, "sort=dropped&order=desc&limit=1") == ["c.example.net"]
        assert await names(desk, "sort=behind&order=desc&limit=2") == ["c.example.net", "b.example.org"]
        await desk.post("pds/block?host=c.example.net")
        assert await names(desk, "status=banned") == ["c.example.net"]
        page = (await desk.get("hosts?q=org")).json

    assert (page["matched"], page["total"]) == (2, 4)
    assert page["statuses"] == {"active": 1, "idle": 2, "offline": 0, "throttled": 0, "banned": 1}


@pytest.mark.parametrize(
    "query", ["sort=colour", "order=up", "status=well", "limit=0", "limit=1001", "offset=-1", "limit=x", "q=a&q=b"]
)
async def test_an_odd_listing_is_refused(query: str, tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        assert (await desk.get(f"hosts?{query}")).status == 400


async def test_one_host_with_its_last_drops(tmp_path: Path) -> None:
    """The account of a drop is told to operators only."""
    async with operating(tmp_path) as desk:
        note = DropNote(1, DID, "schema", "no seq", "3k", 7, desk.serving.log.time_ms)
        desk.store.append(Batch(desk.serving.log.time_ms, notes=(note,)))
        answer = (await desk.get(f"host?hostname={HOSTNAME}")).json
        public = await desk.serving.get(f"/explain/host?hostname={HOSTNAME}")
        unknown = await desk.get("host?hostname=nobody.example.net")

    assert (answer["hostname"], answer["accountLimit"], answer["tier"]) == (HOSTNAME, 100, "default")
    (drop,) = answer["lastDrops"]
    assert (drop["reason"], drop["did"], drop["detail"], drop["upstreamSeq"]) == ("schema", DID, "no seq", 7)
    assert (len(public.json["lastDrops"]), DID in str(public.json)) == (1, False)
    assert answer["tiers"] == ["default", "trusted"]
    assert drop["rule"].endswith("(subscribeRepos lexicon)")
    assert unknown.status == 404


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"account_limit": 7}, {"account_limit": 7}),
        ({"account_limit": None}, {"account_limit": None}),
        ({"rates": {"per_second": 9, "per_day": None}}, {"rates": {"per_second": 9, "per_hour": 5}}),
        (
            {"tier": "trusted", "mode": "strict", "start": "live"},
            {"tier": "trusted", "mode": "strict", "start": "live"},
        ),
        ({"known_at_install": True}, {"known_at_install": True}),
    ],
)
async def test_what_is_given_changes_and_the_rest_stays(
    change: dict[str, Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    async with operating(tmp_path) as desk:
        desk.store.update_host(1, account_limit=3, rates={"per_hour": 5, "per_day": 6})
        before = desk.host()
        reply = await desk.post("hosts/change", {"hostname": HOSTNAME, **change})
        after = desk.host()

    assert reply.status == 200
    kept = {name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)}
    assert kept <= set(fields)
    assert {name: getattr(after, name) for name in fields} == fields


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"account_limit": -1},
        {"account_limit": "many"},
        {"rates": {"per_week": 1}},
        {"rates": {"per_second": 0}},
        {"tier": "gold"},
        {"mode": "odd"},
        {"start": "later"},
    ],
)
async def test_a_bad_change_changes_nothing(change: dict[str, Any], tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        before = desk.host()
        reply = await desk.post("hosts/change", {"hostname": HOSTNAME, **change})

        assert (reply.status, desk.host()) == (400, before)


async def test_a_cursor_is_reset_in_a_new_epoch(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        desk.store.update_host(1, cursor=70, epoch=2, start="live")
        await desk.post("hosts/resetCursor", {"hostname": HOSTNAME, "cursor": 12})
        row = desk.host()
        refused = await desk.post("hosts/resetCursor", {"hostname": HOSTNAME, "cursor": -1})
        await desk.post("hosts/resetCursor", {"hostname": HOSTNAME})
        again = desk.host()

    assert (row.cursor, row.epoch, row.cursor_before, row.reconnect_ms > 0) == (12, 3, 70, True)
    assert refused.status == 400
    assert (again.cursor, again.epoch, again.start) == (None, 4, "window")


async def test_a_report_of_a_worker_does_not_end_a_ban(tmp_path: Path) -> None:
    """It may be older than the ban."""
    async with operating(tmp_path) as desk:
        await desk.post(f"pds/block?host={HOSTNAME}")
        desk.store.update_hosts({1: {"status": "active", "since_ms": 1, "last_error": "late"}})
        row = desk.host()

    assert (row.status, row.last_error) == ("banned", "late")
    assert row.since_ms > 1


async def test_the_audit_log_shows_everything_newest_first(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        await desk.post(f"pds/block?host={HOSTNAME}")
        await desk.post("repo/takeDown", b"{" + b"\x00" * 5_000)
        entries = (await desk.get("audit")).json["entries"]
        older = (await desk.get(f"audit?before={entries[0]['number']}&limit=1")).json["entries"]

    refused, done = entries
    assert (done["action"], done["detail"], done["status"]) == ("pds/block", f"host={HOSTNAME}", 200)
    assert (refused["action"], refused["status"], len(refused["detail"]) <= 300) == ("repo/takeDown", 400, True)
    assert refused["error"].startswith("InvalidRequest: ")
    assert older == [done]


async def test_the_audit_log_is_bounded(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        for limit in range(3):
            await desk.post(f"subs/setPerDayLimit?limit={limit}")
        with desk.store.view() as view:
            ((_, newest),) = view.audit_log(None, 1)
        for _ in range(AUDIT_KEPT - 2):
            desk.store.add_audit(newest)
        entries = (await desk.get(f"audit?limit={AUDIT_KEPT}")).json["entries"]
        older = (await desk.get(f"audit?before={entries[-1]['number']}")).json["entries"]

    assert len(entries) == AUDIT_KEPT
    assert [entry["detail"] for entry in entries[-2:]] == ["limit=2", "limit=1"]
    assert older == []
