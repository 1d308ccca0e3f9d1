"""The audit log when a request does not end as it should: whatever may have been done has an entry."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.net.exchange import Request, Response
from relay.serve.admin.audit import WRITE_SECONDS, AuditLog
from relay.serve.admin.inputs import success
from relay.store.store import Store
from tests.support.logged import logged
from tests.support.operating import Desk, operating
from tests.support.serving import LOG

BLOCK = Request("POST", "/admin/pds/block", (("host", "a.example.org"),), {}, b"", "192.0.2.1")


async def inline(write: Callable[[], Any]) -> Any:
    """As a thread does: not at all once it was cancelled."""
    await trio.lowlevel.checkpoint()
    return write()


async def entry(desk: Desk) -> tuple[int, str]:
    """Status and error of the only entry."""
    (found,) = (await desk.get("audit")).json["entries"]
    return found["status"], found["error"]


async def test_a_change_that_was_made_before_a_cut_is_recorded(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        audit = AuditLog(desk.store, offload=inline, now_ms=lambda: 1)
        with trio.CancelScope() as cut:

            async def change(_request: Request) -> Response:
                cut.cancel()
                return success()

            await audit.recorded(BLOCK, "basic", change)

        assert await entry(desk) == (200, "")


async def test_a_change_that_is_cut_off_is_recorded(tmp_path: Path) -> None:
    """Nobody knows whether it was made."""
    async with operating(tmp_path) as desk:
        audit = AuditLog(desk.store, offload=inline, now_ms=lambda: 1)
        with trio.CancelScope() as cut:

            async def change(_request: Request) -> Response:
                cut.cancel()
                await trio.sleep_forever()
                raise AssertionError

            await audit.recorded(BLOCK, "basic", change)

        assert cut.cancelled_caught
        assert await entry(desk) == (500, "cut off before it was answered; it may have been done")


async def test_a_change_that_fails_is_recorded(tmp_path: Path) -> None:
    async def change(_request: Request) -> Response:
        raise KeyError("a fault of ours")

    async with operating(tmp_path) as desk:
        audit = AuditLog(desk.store, offload=inline, now_ms=lambda: 1)
        with pytest.raises(KeyError):
            await audit.recorded(BLOCK, "basic", change)

        assert await entry(desk) == (500, "KeyError('a fault of ours')")


async def test_an_entry_that_cannot_be_stored_holds_up_no_end(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """It is in the log all the same."""

    async def never(_write: Callable[[], Any]) -> Any:
        await trio.sleep_forever()

    async def change(_request: Request) -> Response:
        return success()

    store = Store.open(tmp_path / "data", LOG, create=True, now_ms=1)
    with closing(store), logged() as log:
        began = trio.current_time()
        response = await AuditLog(store, offload=never, now_ms=lambda: 1).recorded(BLOCK, "basic", change)

    assert (response.status, trio.current_time() - began) == (200, WRITE_SECONDS)
    assert '"admin_action"' in log.getvalue()
    assert '"audit_entry_lost"' in log.getvalue()
