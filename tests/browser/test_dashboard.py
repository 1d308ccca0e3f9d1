"""The pages in a real browser: login, every page, a ban and its reversal, a takedown, a look-up; light, dark, phone."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import PASSWORD, UNKNOWN_DID, Stage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
PAGES = ("", "hosts", "accounts", "consumers", "policy", "audit")


@contextmanager
def looking(chromium: Any, **options: Any) -> Iterator[Any]:
    """A page of a fresh browser profile; whatever its console complains about fails the test."""
    context = chromium.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    try:
        yield page
        assert [each for each in complaints if "status of 4" not in each] == []
    finally:
        context.close()


def enter(page: Any, stage: Stage) -> None:
    page.goto(f"{stage.url}/dash")
    page.get_by_label("Admin password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Overview").wait_for()


def go(page: Any, stage: Stage, name: str) -> None:
    page.goto(f"{stage.url}/dash#/{name}")
    page.locator("main h1").wait_for()
    page.wait_for_timeout(300)


def check_fits(page: Any, look: str) -> None:
    """Nothing but a table that scrolls by itself is wider than the window, and on a phone no table is."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), page.url
    if look == "phone":
        wide = "[...document.querySelectorAll('.scroll')].filter((each) => each.scrollWidth > each.clientWidth).length"
        assert page.evaluate(wide) == 0, page.url


def confirm(page: Any, name: str) -> None:
    page.locator("dialog").get_by_role("button", name=name).click()


def test_a_wrong_password_stays_outside(chromium: Any, stage: Stage) -> None:
    with looking(chromium) as page:
        page.goto(f"{stage.url}/dash")
        page.get_by_label("Admin password").fill("wrong")
        page.get_by_role("button", name="Log in").click()

        page.get_by_text("That is not the password.").wait_for()
        assert page.context.cookies() == []


def test_login_is_kept_over_a_reload_and_ends_with_logout(chromium: Any, stage: Stage) -> None:
    with looking(chromium) as page:
        enter(page, stage)
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")

        page.reload()
        page.get_by_text("Live", exact=True).wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Admin password").wait_for()
        assert page.context.cookies() == []
        page.reload()
        page.get_by_label("Admin password").wait_for()


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_shows_and_fits(look: str, chromium: Any, stage: Stage, pictures: Path) -> None:
    with looking(chromium, **LOOKS[look]) as page:
        page.goto(f"{stage.url}/dash")
        page.get_by_label("Admin password").wait_for()
        page.screenshot(path=pictures / f"{look}-login.png")
        enter(page, stage)
        page.get_by_text("Live", exact=True).wait_for()
        for name in (*PAGES, f"host/{stage.hostnames[0]}", f"accounts/{stage.did}"):
            go(page, stage, name)
            if not name:
                page.get_by_text(re.compile(r"[1-9][0-9.]*/s")).first.wait_for(timeout=40_000)
            check_fits(page, look)
            if name == "hosts":
                lines = page.evaluate(
                    "[...document.querySelectorAll('.host')].map((each) => each.getClientRects().length)"
                )
                assert set(lines) == {1}, "a name was broken in the middle of a word"
            page.screenshot(
                path=pictures / f"{look}-{name.partition('/')[0] or 'overview'}{'-one' * ('/' in name)}.png",
                full_page=True,
            )


@pytest.mark.parametrize("look", LOOKS)
def test_the_visitors_page(look: str, chromium: Any, stage: Stage, pictures: Path) -> None:
    with looking(chromium, **LOOKS[look]) as page:
        page.goto(stage.url)
        page.locator("#rate", has_text=re.compile("[1-9]")).wait_for()
        page.get_by_label("Hostname of a PDS, or a DID").fill(stage.repeating_hostname)
        page.get_by_role("button", name="Look up").click()
        page.locator("#found h3", has_text=stage.repeating_hostname).wait_for()
        check_fits(page, look)
        page.screenshot(path=pictures / f"{look}-front.png", full_page=True)
        told = page.locator("#found").inner_text()
        assert ("`" in told, "(sync)" in told, "Cursor lag" in told) == (False, False, False)
        assert re.search(r"Last event received\s+\d+ s ago", told)
        page.locator("#found").get_by_role("link", name="sync").first.wait_for()

        page.get_by_label("Hostname of a PDS, or a DID").fill(UNKNOWN_DID)
        page.get_by_role("button", name="Look up").click()
        page.locator("#found", has_text="no event of the account has passed").wait_for()


def test_seqs_that_a_raise_skipped_are_no_events(chromium: Any, stage: Stage) -> None:
    """Twenty events came, on both sides of a jump by a billion."""
    times = {"floorSeq": 1, "floorTime": "2026-01-31T00:00:00Z", "tipTime": "2026-01-31T00:00:00Z"}
    jump = {"beforeSeq": 110, "afterSeq": 1_000_000_111}
    answers = [{**times, "tipSeq": 100, "raises": []}, {**times, "tipSeq": 1_000_000_120, "raises": [jump]}]
    with looking(chromium) as page:
        page.route("**/window", lambda route: route.fulfill(json=answers.pop(0) if len(answers) > 1 else answers[0]))
        page.goto(stage.url)
        page.locator("#tip", has_text="1000000120").wait_for()

        assert 1 <= float(page.locator("#rate").inner_text()) <= 10


def test_a_host_is_found_banned_and_read_again(chromium: Any, stage: Stage) -> None:
    hostname = stage.hostnames[1]
    with looking(chromium) as page:
        enter(page, stage)
        go(page, stage, "hosts")
        page.get_by_label("Find a host").fill(hostname)
        rows = page.locator("tbody tr")
        rows.nth(1).wait_for(state="detached")
        assert rows.count() == 1
        page.get_by_role("link", name=hostname).click()
        page.get_by_role("heading", name=hostname).wait_for()

        page.get_by_role("button", name="Ban host").click()
        confirm(page, "Cancel")
        assert page.locator(".head .badge").inner_text() != "banned"
        page.get_by_role("button", name="Ban host").click()
        confirm(page, "Ban host")
        page.locator(".head .badge", has_text="banned").wait_for()
        go(page, stage, "policy")
        page.get_by_role("link", name=hostname).wait_for()
        go(page, stage, f"host/{hostname}")
        page.get_by_role("button", name="Lift ban").click()
        page.locator(".head .badge", has_text="active").wait_for(timeout=20_000)


def test_hosts_are_sorted_by_how_far_they_are_behind(chromium: Any, stage: Stage) -> None:
    with looking(chromium) as page:
        enter(page, stage)
        go(page, stage, "hosts")
        page.get_by_role("button", name="Behind").click()

        page.locator("th[aria-sort=descending]", has_text="Behind").wait_for()
        assert page.locator("tbody tr").count() == len(stage.hostnames)


@pytest.mark.parametrize("look", LOOKS)
def test_a_hosts_last_drops_name_the_account(look: str, chromium: Any, stage: Stage, pictures: Path) -> None:
    """The account's own page does not repeat it."""
    with looking(chromium, **LOOKS[look]) as page:
        enter(page, stage)
        go(page, stage, f"host/{stage.repeating_hostname}")
        link = page.locator("tbody .did").get_by_role("link", name="did:plc:").first
        link.wait_for(timeout=30_000)
        page.screenshot(path=pictures / f"{look}-drops.png", full_page=True)
        did = link.inner_text()
        link.click()
        page.get_by_role("heading", name=did).wait_for()

        page.get_by_text("rev_not_newer").first.wait_for()
        assert page.locator("tbody .did").count() == 0


def test_limits_are_changed(chromium: Any, stage: Stage) -> None:
    hostname = stage.hostnames[2]
    with looking(chromium) as page:
        enter(page, stage)
        go(page, stage, f"host/{hostname}")
        page.get_by_label("Accounts", exact=True).fill("12345")
        page.get_by_label("Events a second", exact=True).fill("77")
        page.get_by_role("button", name="Save limits").click()
        page.get_by_text("Limits saved.").wait_for()
        page.locator("select[name=tier]").select_option("default")
        page.get_by_role("button", name="Save limits").click()
        page.get_by_text("In tier default now.").wait_for()
        page.reload()

        page.get_by_label("Accounts", exact=True).wait_for()
        assert page.locator("select[name=tier]").input_value() == "default"
        assert page.get_by_label("Accounts", exact=True).input_value() == "12345"
        assert page.get_by_label("Events a second", exact=True).input_value() == "77"


def test_an_account_is_looked_up_taken_down_and_restored(chromium: Any, stage: Stage) -> None:
    with looking(chromium) as page:
        enter(page, stage)
        go(page, stage, "accounts")
        page.get_by_label("DID of an account").fill(UNKNOWN_DID)
        page.get_by_role("button", name="Look up").click()
        page.get_by_text("No event of this account has passed here").wait_for()
        page.get_by_label("DID of an account").fill(stage.did)
        page.get_by_role("button", name="Look up").click()

        page.get_by_label("Also replace its events in the backfill window").check()
        page.get_by_role("button", name="Take down").click()
        confirm(page, "Take down")
        page.locator(".badge", has_text="takendown").wait_for()
        page.get_by_text(re.compile("[1-9][0-9]* events replaced")).wait_for(timeout=40_000)
        go(page, stage, "accounts")
        page.get_by_role("link", name=stage.did).click()
        page.get_by_role("button", name="End the takedown").click()
        page.get_by_role("button", name="Take down").wait_for()
        go(page, stage, "audit")
        page.get_by_role("cell", name="repo/reverseTakedown").or_(
            page.get_by_text("repo/reverseTakedown")
        ).first.wait_for()


def test_an_account_that_is_taken_down_already_is_purged_after_all(chromium: Any, stage: Stage, pictures: Path) -> None:
    with looking(chromium) as page:
        enter(page, stage)
        go(page, stage, f"accounts/{stage.did}")
        page.get_by_role("button", name="Take down").click()
        confirm(page, "Take down")
        page.locator(".badge", has_text="takendown").wait_for()
        page.get_by_role("button", name="Replace its events in the window too").click()
        page.screenshot(path=pictures / "light-purge.png")
        confirm(page, "Replace events")

        page.get_by_text(re.compile("[0-9]+ events replaced")).wait_for(timeout=40_000)
        assert page.get_by_role("button", name="Replace its events in the window too").count() == 0
        page.get_by_role("button", name="End the takedown").click()
        page.get_by_role("button", name="Take down").wait_for()


def test_a_consumer_is_sent_away(chromium: Any, stage: Stage) -> None:
    with looking(chromium) as page:
        enter(page, stage)
        go(page, stage, "consumers")
        before = page.locator("tbody tr").first.inner_text()
        page.get_by_role("button", name="Kick").first.click()
        confirm(page, "Close connection")
        page.get_by_text("The connection is being closed.").wait_for()
        assert before


def test_the_charts_can_be_read_with_the_keyboard(chromium: Any, stage: Stage) -> None:
    with looking(chromium) as page:
        enter(page, stage)
        chart = page.get_by_role("img", name=re.compile("Events a second over"))
        chart.focus()
        page.keyboard.press("ArrowLeft")

        assert "/s" in page.locator(".tip").first.inner_text()


def test_everything_can_be_reached_without_a_pointer(chromium: Any, stage: Stage) -> None:
    with looking(chromium) as page:
        enter(page, stage)
        page.reload()
        page.get_by_text("Live", exact=True).wait_for()
        reached = set()
        for _ in range(10):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.textContent.trim()"))

        assert {"Hosts", "Accounts", "Consumers", "Bans", "Audit", "Log out"} <= reached
