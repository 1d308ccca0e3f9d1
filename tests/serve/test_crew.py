"""What `/_ready` learns from the supervisor: who keeps dying, who is down, and that asking is cheap and harmless."""

from pathlib import Path

import pytest
import trio

from relay.app.listening import bind_control
from relay.app.slot import WorkerStatus
from relay.net.connection import Site
from relay.net.exchange import Request, Response, json_response
from relay.net.server import serve_http
from relay.serve.crew import Crew, WorkerReport, judge


def worker(role: str, number: int, *, up: bool = True, failing: bool = False) -> WorkerReport:
    return WorkerReport(role, number, up, failing, "killed by signal 9" if failing else "")


@pytest.mark.parametrize(
    ("workers", "reasons", "warnings"),
    [
        ([], [], []),
        ([worker("ingest", 0), worker("serve", 0)], [], []),
        ([worker("ingest", 0), worker("serve", 0, up=False)], [], ["serve-0 is down at the moment"]),
        (
            [worker("ingest", 0), worker("ingest", 1, up=False, failing=True)],
            ["ingest-1 keeps dying: killed by signal 9"],
            [],
        ),
        (
            [worker("ingest", 0, up=False), worker("serve", 0)],
            ["no ingest worker is up: nothing new comes in"],
            ["ingest-0 is down at the moment"],
        ),
    ],
)
def test_what_follows_from_the_state_of_the_workers(
    workers: list[WorkerReport], reasons: list[str], warnings: list[str]
) -> None:
    assert judge(workers) == (reasons, warnings)


async def test_the_supervisor_is_asked_once_a_second_however_many_ask(
    tmp_path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    """Over a real socket, with what the supervisor's own type encodes to."""
    asked = []
    failing = WorkerStatus("serve", 1, up=False, pid=None, restarts=5, failing=True, last_exit="Corrupt: a page")

    async def answer(each: Request) -> Response:
        asked.append(each.path)
        await trio.lowlevel.checkpoint()
        return json_response(200, [failing])

    path = tmp_path / "supervisor.sock"
    await nursery.start(serve_http, [bind_control(path)], Site(answer))
    crew = Crew(path)
    async with trio.open_nursery() as askers:
        for _ in range(10):
            askers.start_soon(crew.findings)
    assert (await crew.findings()).reasons == ["serve-1 keeps dying: Corrupt: a page"]
    assert asked == ["/workers"]
    await trio.sleep(1.0)
    await crew.findings()
    assert len(asked) == 2
    nursery.cancel_scope.cancel()


async def test_a_supervisor_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    """It is not asked at all by a worker without one."""
    reasons, warnings = await Crew(tmp_path / "nobody.sock").findings()
    assert reasons == []
    assert "supervisor" in warnings[0]
    assert await Crew(None).findings() == ([], [])
