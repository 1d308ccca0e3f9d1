"""How the workers of this relay are doing, asked of the supervisor over its control socket for `/_ready`.

Owns the question and what follows from the answer, in words. The supervisor's side is in `relay.app`, which this floor
does not know. Everybody who asks within a moment shares one answer.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec
import trio

from relay.net.control import ask
from relay.net.errors import NetError

SUPERVISOR_SOCKET = "supervisor.sock"  # beside those of the workers
_ASK_SECONDS = 2.0
_FRESH_SECONDS = 1.0
_ANSWER_BYTES_MAX = 1 << 20


class WorkerReport(msgspec.Struct, frozen=True):
    """One worker, as the supervisor sees it: `failing` is that it keeps dying, `last_exit` how it ended last."""

    role: str
    worker: int
    up: bool
    failing: bool
    last_exit: str


class Findings(NamedTuple):
    """What speaks against readiness, and what is only worth saying."""

    reasons: list[str]
    warnings: list[str]


class Crew:
    """Asks one supervisor. Without a socket there is none to ask, and nothing to say."""

    def __init__(self, socket_path: Path | None) -> None:
        self._path = socket_path
        self._lock = trio.Lock()
        self._asked_at = float("-inf")
        self._findings = Findings([], [])

    async def findings(self) -> Findings:
        """At most a second old."""
        if self._path is None:
            return self._findings
        async with self._lock:
            if trio.current_time() >= self._asked_at + _FRESH_SECONDS:
                self._findings = await _ask(self._path)
                self._asked_at = trio.current_time()
            return self._findings


async def _ask(path: Path) -> Findings:
    try:
        body = await ask(path, "GET", "/workers", timeout_seconds=_ASK_SECONDS, body_bytes_max=_ANSWER_BYTES_MAX)
        return judge(msgspec.json.decode(body, type=list[WorkerReport]))
    except (NetError, msgspec.DecodeError) as error:
        return Findings([], [f"the supervisor does not say how the workers are doing: {error}"])


def judge(workers: list[WorkerReport]) -> Findings:
    """A worker that keeps dying is a reason; one that is just being started again is not, since others go on."""
    failing = [f"{each.role}-{each.worker} keeps dying: {each.last_exit}" for each in workers if each.failing]
    down = [f"{each.role}-{each.worker} is down at the moment" for each in workers if not (each.up or each.failing)]
    reasons, warnings = failing, down
    ingest = [each for each in workers if each.role == "ingest"]
    if ingest and not any(each.up for each in ingest):
        reasons = [*reasons, "no ingest worker is up: nothing new comes in"]
    return Findings(reasons, warnings)
