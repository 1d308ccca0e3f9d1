"""The bulkhead around the protocol library: a connection's failure is that connection's end."""

# ruff: noqa: PT012 - the end of a connection is raised by its `async with` block, so the block is what is watched

import pytest
import trio
import trio.testing
import trio_websocket
from wsproto.utilities import LocalProtocolError

from relay.net.errors import ConnectionClosed, PeerSilent
from relay.net.websocket import Link, link_nursery, run_client_link
from tests.net.frames import BINARY, frame, upgrade_answer


class _FailingStream(trio.abc.Stream):
    """Answers the upgrade, gives one message, then raises `error` at the next read."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._pieces: list[bytes] = []
        self._requested = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if not self._requested.is_set():
            self._pieces = [upgrade_answer(bytes(data)), frame(BINARY, b"1")]
            self._requested.set()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002 -- the pieces are small
        await self._requested.wait()
        if not self._pieces:
            raise self._error
        return self._pieces.pop(0)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def _run(stream: trio.abc.Stream, *, task_status: trio.TaskStatus[Link]) -> None:
    await run_client_link(
        stream, "host.example", "/", (), message_bytes_max=1_000, read_bytes=4_096, task_status=task_status
    )


@pytest.mark.parametrize(
    "error",
    [
        LocalProtocolError("ping after close"),
        trio.ClosedResourceError(),
        trio.BrokenResourceError(),
        trio_websocket.ConnectionClosed(None),
        trio_websocket.HandshakeError(),
        UnicodeDecodeError("ascii", b"\xff", 0, 1, "from outside"),
        OSError("network"),
        RuntimeError("unheard of"),
    ],
    ids=repr,
)
async def test_failure_of_any_kind_ends_only_the_link(error: Exception) -> None:
    async with trio.open_nursery() as nursery:
        link: Link = await nursery.start(_run, _FailingStream(error))
        assert await link.get_message() == b"1"
        with pytest.raises(ConnectionClosed):
            await link.get_message()
        await link.ended.wait()
        assert link.is_closed
        with trio.fail_after(1):
            await link.close(1000, "")


async def test_reason_given_by_the_stream_is_kept() -> None:
    async with trio.open_nursery() as nursery:
        link: Link = await nursery.start(_run, _FailingStream(PeerSilent("why")))
        await link.get_message()
        with pytest.raises(PeerSilent, match="why"):
            await link.get_message()


async def test_failed_assertion_is_ours_and_goes_through() -> None:
    """A stranger's bytes end a connection; doubt about our own code ends the worker (design sections 7 and 10)."""
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="ours"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(_run, _FailingStream(AssertionError("ours")))
            await trio.sleep_forever()


async def test_link_nursery_gives_the_error_of_its_block_as_it_is() -> None:
    ended = False

    async def task() -> None:
        nonlocal ended
        try:
            await trio.sleep_forever()
        finally:
            ended = True

    with pytest.raises(KeyError, match="mine"):
        async with link_nursery() as nursery:
            nursery.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError("mine")

    assert ended


async def test_link_nursery_cancelled_from_inside_ends_the_block() -> None:
    async with link_nursery() as nursery:
        nursery.cancel_scope.cancel()
        await trio.sleep_forever()


async def test_link_nursery_keeps_an_error_raised_while_cancelled() -> None:
    with pytest.raises(KeyError, match="mine"), trio.CancelScope() as scope:
        async with link_nursery():
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("mine")
