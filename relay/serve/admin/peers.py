"""The other processes of this relay, as a serve worker reaches them: over their Unix sockets (design section 1).

Owns whom to ask and what a missing answer means: a worker that is down or silent has no consumers to show.
"""

from pathlib import Path
from typing import Any

import msgspec
import trio

from relay.net.control import ask
from relay.net.errors import HttpStatus, NetError
from relay.observe.logs import get_logger
from relay.serve.audience import Audience

ASK_SECONDS = 2.0

_log = get_logger("serve.peers")


class Peers:
    """All serve workers, this one included, and the supervisor. `run_dir` None: there is nobody else."""

    def __init__(self, run_dir: Path | None, *, index: int, count: int, audience: Audience) -> None:
        self._run_dir = run_dir
        self._others = tuple(number for number in range(count) if number != index) if run_dir is not None else ()
        self._index = index
        self._audience = audience

    async def consumers(self) -> list[dict[str, Any]]:
        """Every consumer of the relay, each with the `worker` it is at, oldest first within a worker."""
        found: dict[int, list[dict[str, Any]]] = {self._index: self._audience.describe()}
        async with trio.open_nursery() as nursery:
            for number in self._others:
                nursery.start_soon(self._consumers_of, number, found)
        return [{**consumer, "worker": number} for number in sorted(found) for consumer in found[number]]

    async def kick(self, consumer_id: int) -> bool:
        """Send a consumer away wherever it is. False when no worker that answers has it."""
        if self._audience.kick(consumer_id):
            return True
        kicked: list[int] = []
        async with trio.open_nursery() as nursery:
            for number in self._others:
                nursery.start_soon(self._kick_at, number, consumer_id, kicked)
        return bool(kicked)

    async def workers(self) -> list[dict[str, Any]]:
        """Every worker as the supervisor sees it; none when there is no supervisor to ask."""
        if self._run_dir is None:
            return []
        answer = await self._ask("supervisor", "GET", "/workers")
        return list(msgspec.json.decode(answer)) if answer is not None else []

    async def _consumers_of(self, number: int, found: dict[int, list[dict[str, Any]]]) -> None:
        answer = await self._ask(f"serve-{number}", "GET", "/consumers")
        if answer is not None:
            found[number] = msgspec.json.decode(answer)

    async def _kick_at(self, number: int, consumer_id: int, kicked: list[int]) -> None:
        if await self._ask(f"serve-{number}", "POST", "/kick", msgspec.json.encode({"id": consumer_id})) is not None:
            kicked.append(number)

    async def _ask(self, name: str, method: str, target: str, body: bytes | None = None) -> bytes | None:
        assert self._run_dir is not None
        path = self._run_dir / f"{name}.sock"
        try:
            return await ask(path, method, target, body, timeout_seconds=ASK_SECONDS)
        except HttpStatus:
            return None  # not one of its consumers
        except NetError as error:
            _log.warning("peer_silent", peer=name, error=str(error))
            return None
