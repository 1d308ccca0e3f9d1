"""Mixed traffic with every kind of change in it, takedowns included, beside a witness who reads what comes out.

The network moves, rotates, pauses and deletes accounts by itself; takedowns are this module's. It keeps every tree that
an account ever had (they share their nodes), so that it can answer the witness's getRepo.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from relay.world.network import Emission
from relay.world.stage import Stage
from relay.world.tree import Node
from relay.world.treewalk import items
from tests.support.witness import Witness

SetLocalStatus = Callable[[str, str], Awaitable[int]]
"""`await set_local_status(did, status)`: how many events that appended."""


class MixedLife:
    """A stage in motion. `hidden` are the DIDs that were taken down at any time."""

    def __init__(self, stage: Stage, set_local_status: SetLocalStatus, seed: int) -> None:
        self.stage = stage
        self.emissions: list[Emission] = []
        self.hidden: set[str] = set()
        self.told_by_us = 0
        self._set_local_status = set_local_status
        self._down: list[str] = []
        self._rng = random.Random(seed)
        self._trees: dict[bytes, Node] = {}
        for account in stage.network.writers:
            self._trees[account.repo.tree.cid] = account.repo.tree
        self.witness = Witness(self._document, self._repo_at)

    def step(self, now_ms: int) -> int:
        """The next thing that happens in the network; how many events it is."""
        emissions = self.stage.step(now_ms)
        self.emissions += emissions
        for account in (*self.stage.network.writers, *self.stage.network.waiting):
            self._trees.setdefault(account.repo.tree.cid, account.repo.tree)
        return len(emissions)

    async def act(self) -> None:
        """An operator takes an account down, or restores the one that is down longest."""
        if len(self._down) >= 2:
            did, status = self._down.pop(0), ""
        else:
            known = [account.did for account in self.stage.network.writers if account.did not in self._down]
            did, status = self._rng.choice(known), self._rng.choice(["takendown", "suspended"])
            self._down.append(did)
        self.hidden.add(did)
        self.told_by_us += await self._set_local_status(did, status)

    def _document(self, did: str) -> Mapping[str, Any]:
        document = self.stage.network.directory.document(did)
        assert document is not None
        return document

    def _repo_at(self, data: bytes) -> Mapping[bytes, bytes]:
        return dict(items(self._trees[data]))
