"""How often hosts may have documents read again."""

import pytest
import trio.testing

from relay.identity.refreshes import REFRESHES_PER_DID_BURST, Refreshes

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


async def test_forced_refreshes_are_bounded_per_did_and_per_host(autojump_clock: trio.testing.MockClock) -> None:
    """Checklist 138, 164."""
    refreshes = Refreshes(per_minute=8)
    granted = [refreshes.wait_seconds(DID, "a.example.com") for _ in range(10)]
    assert granted == [0.0] * REFRESHES_PER_DID_BURST + [None] * (10 - REFRESHES_PER_DID_BURST)
    waits = [refreshes.wait_seconds(f"did:plc:{n}", "b.example.com") for n in range(10)]
    assert waits[:8] == [0.0] * 8
    assert waits[8:] == [pytest.approx(7.5), pytest.approx(15.0)]

    autojump_clock.jump(61)
    again = [refreshes.wait_seconds(DID, "a.example.com") for _ in range(2)]
    assert again == [0.0, None]


async def test_nobody_uses_up_the_refreshes_of_another_host(autojump_clock: trio.testing.MockClock) -> None:
    refreshes = Refreshes(per_minute=60)
    while refreshes.wait_seconds(DID, "hostile.example.com") is not None:
        pass

    assert refreshes.wait_seconds(DID, "home.example.com") == 0.0


async def test_a_refresh_of_a_stale_document_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    """It is never refused for want of a budget, and whoever asks without waiting owes nothing for it."""
    refreshes = Refreshes(per_minute=60)
    waits = [refreshes.stale_wait_seconds(DID, "a.example.com") for _ in range(REFRESHES_PER_DID_BURST + 100)]
    assert waits[:REFRESHES_PER_DID_BURST] == [0.0] * REFRESHES_PER_DID_BURST
    assert waits[REFRESHES_PER_DID_BURST:] == [pytest.approx(60)] * 100

    autojump_clock.jump(waits[-1])
    again = [refreshes.stale_wait_seconds(DID, "a.example.com") for _ in range(2)]
    assert again == [0.0, pytest.approx(60)]
