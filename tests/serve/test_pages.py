"""Health, readiness, the window and the front page."""

from pathlib import Path

import pytest

from relay.serve.pages import clock_doubts, judge
from relay.serve.settings import ServeRoleSettings
from relay.store.policy import CLOCK, ClockDoubt, encoded
from relay.store.settings import LogSettings
from relay.store.window import Window
from tests.support.log_writer import START_MS
from tests.support.serving import LOG, request, serve

SETTINGS = ServeRoleSettings(tip_age_seconds_max=3600, disk_free_bytes_min=1000)
WINDOW = Window(100, START_MS - 5000, 200, START_MS, ())


@pytest.mark.parametrize(
    ("now_ms", "free_bytes", "reasons", "warnings"),
    [
        (START_MS, 1000, 0, 0),
        (START_MS + 3_600_000, 1000, 0, 0),
        (START_MS + 3_600_001, 1000, 0, 1),  # quiet hosts are no fault
        (START_MS - 3_600_000, 1000, 0, 0),
        (START_MS - 3_600_001, 1000, 1, 0),  # our clock is behind
        (START_MS, 999, 1, 0),
        (START_MS + 9_999_999, 0, 1, 1),
        (START_MS - 9_999_999, 0, 2, 0),
    ],
)
def test_every_reason_against_readiness_and_every_warning(
    now_ms: int, free_bytes: int, reasons: int, warnings: int
) -> None:
    found = judge(WINDOW, now_ms, free_bytes, SETTINGS)
    assert (len(found.reasons), len(found.warnings)) == (reasons, warnings)


def test_reasons_say_what_is_known_in_units_for_people() -> None:
    """A newest event beyond now does not tell whether the clock is wrong, or was."""
    settings = ServeRoleSettings(tip_age_seconds_max=3600, disk_free_bytes_min=1 << 30)

    assert judge(WINDOW, START_MS - 7_193_000, 500 << 20, settings).reasons == [
        (
            "the newest event lies 7193 s ahead of our clock: the clock is wrong, or was when it was appended;"
            " retention by time is paused"
        ),
        "0.5 GiB are free on the disk, less than 1.0 GiB",
    ]


async def test_doubts_about_our_clock_are_warnings(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        assert clock_doubts(serving.store) == []
        serving.store.note_policy(CLOCK, encoded(ClockDoubt(hosts=3, heard=4, stepped_ms=-7_200_000)))
        reply = await serving.get("/_ready")

    assert reply.status == 200
    assert [line for line in reply.json["warnings"] if "our clock" in line] == [
        (
            "commits of 3 of the 4 hosts heard of late are dropped because they lie in our future (rev_in_future):"
            " our clock is probably behind; set up NTP"
        ),
        "our clock was set back by 7200 s a few minutes ago",
    ]


def test_a_log_that_never_held_anything_is_ready() -> None:
    assert judge(Window(1, 0, 0, 0, ()), START_MS, 1000, SETTINGS) == ([], [])


async def test_readiness_over_http_tells_load_balancers_and_people(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        serving.log.append()
        serving.now_ms = serving.log.time_ms + 1000
        reply = await serving.get("/_ready")
        assert (reply.status, reply.json["ready"], reply.json["reasons"]) == (200, True, [])
        assert "log.sync" in reply.json["warnings"][0]  # tests do not sync
        serving.free_bytes = 5
        reply = await serving.get("/_ready")
        assert reply.status == 503
        assert "disk" in reply.json["reasons"][0]


async def test_health_needs_a_store_that_can_be_read(tmp_path: Path) -> None:
    """Checklist 249: 200 with the version, 500 once reading fails."""
    async with serve(tmp_path) as serving:
        for path in ("/_health", "/xrpc/_health"):
            reply = await serving.get(path)
            assert (reply.status, reply.json["status"]) == (200, "ok")
            assert reply.json["version"]
            assert (await request(serving.port, "HEAD", path)).body == b""


async def test_the_window_as_json(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        empty = (await serving.get("/window")).json
        assert empty["floorSeq"] == empty["tipSeq"] + 1
        assert (empty["floorTime"], empty["tipTime"]) == (None, None)
        first = serving.log.append(3)[0]
        serving.log.append(2, after_ms=60_000)
        window = (await serving.get("/window")).json
        assert (window["floorSeq"], window["tipSeq"]) == (first, first + 4)
        assert window["floorTime"] == "2026-09-21T14:13:20.010Z"
        assert window["tipTime"] == "2026-09-21T14:14:20.010Z"
        assert window["raises"] == []


async def test_the_window_finds_the_seq_of_a_moment(tmp_path: Path) -> None:
    """The first seq at or after it; before the window its floor, after the tip the seq to come."""
    async with serve(tmp_path) as serving:
        first = serving.log.append(3)[0]
        serving.log.append(2, after_ms=60_000)
        for at, seq in (
            ("2026-09-21T14:13:20.010Z", first),
            ("2026-09-21T14:13:20.011Z", first + 3),
            ("2026-09-21T16:14:00%2B02:00", first + 3),
            ("2026-09-21T16:14:00+02:00", first + 3),  # a query's "+" means a space, and people type it all the same
            ("2026-09-21T14:14:20.011Z", first + 5),
            ("1970-01-01T00:00:00Z", first),
            ("0000-01-01T00:00:00Z", first),
        ):
            assert (await serving.get(f"/window?at={at}")).json["seq"] == seq, at
        for at in (
            "",
            "yesterday",
            "2026-09-21",
            "2026-09-21T14:13:20",
            "2026-13-01T00:00:00Z",
            "2026-09-21%2014:13:20Z",
        ):
            assert (await serving.get(f"/window?at={at}")).status == 400, at


async def test_raises_are_shown(tmp_path: Path) -> None:
    async with serve(tmp_path) as first:
        before = first.log.append()[0]
    raised = LogSettings(sync=False, initial_seq=before + 1000, state_map_bytes=64 << 20)
    async with serve(tmp_path, log=raised) as serving:
        shown = (await serving.get("/window")).json["raises"]
        assert shown == [{"beforeSeq": before, "afterSeq": before + 1000}]
        serving.log.append(2)
        assert "events held    3 " in (await serving.get("/")).body.decode()


async def test_the_front_page_says_how_to_subscribe(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        serving.log.append(7)
        reply = await serving.get("/", Host="relay.example.com")
        assert reply.headers["content-type"].startswith("text/plain")
        text = reply.body.decode()
        assert " ws://relay.example.com/xrpc/com.atproto.sync.subscribeRepos\n" in text
        assert "events held    7 " in text


async def test_the_front_page_says_wss_behind_a_proxy_that_speaks_tls(tmp_path: Path) -> None:
    """Which is believed from a trusted proxy only: anybody can send the header."""
    for trusted, scheme in ((("127.0.0.0/8",), "wss"), (("10.0.0.0/8",), "ws")):
        async with serve(tmp_path / scheme, ServeRoleSettings(log=LOG, trusted_proxies=trusted)) as serving:
            for said, shown in (("https", scheme), ("http", "ws")):
                text = (await serving.get("/", **{"X-Forwarded-Proto": said})).body.decode()
                assert f" {shown}://relay.test/xrpc/" in text


@pytest.mark.parametrize(
    ("contact", "shown"),
    [
        ("relay@example.org", '<p id="operator">Operator of this relay: relay@example.org</p>'),
        ("<b>us</b>", '<p id="operator">Operator of this relay: &lt;b&gt;us&lt;/b&gt;</p>'),
        ("", '<p id="operator"></p>'),
    ],
)
async def test_the_page_for_browsers_names_the_operator(tmp_path: Path, contact: str, shown: str) -> None:
    async with serve(tmp_path, ServeRoleSettings(log=LOG, contact=contact)) as serving:
        assert shown in (await serving.get("/", Accept="text/html")).body.decode()
