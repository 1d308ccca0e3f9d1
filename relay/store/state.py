"""The state env as the rest of the store uses it: write txns under the one lock, and the end of use after a failure.

`on_step` is called with the name of each point that an append, a roll, a retention or a purge passes. Workers take
times there, tests raise there; the store itself has no clock. Steps: "lock_wanted", "locked", "segment_created",
"segment_committed", "state_commit" (just before), "state_committed", "floor_moved", "segment_renamed", "chunk_purged".
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relay.store.env import TRANSLATED, Env, Txn
from relay.store.errors import NotWritable, StoreClosed, StoreError

OnStep = Callable[[str], None]


def no_step(name: str) -> None:
    """Nobody listens."""


class State:
    """The open state env of this process."""

    def __init__(self, env: Env, *, readonly: bool, on_step: OnStep) -> None:
        self.env = env
        self.on_step = on_step
        self._readonly = readonly
        self._pid = os.getpid()
        self._ended_by: str | None = None

    def close(self) -> None:
        """End all use."""
        if self._ended_by != "closed":
            self._ended_by = "closed"
            self.env.close()

    def check(self) -> None:
        """Raise `StoreClosed` when the store was closed or an earlier write failed."""
        if self._ended_by is not None:
            raise StoreClosed(f"the store is no longer used: {self._ended_by}")

    @contextmanager
    def reading(self) -> Iterator["Txn[bytes]"]:
        """A short read txn. Raises `StoreError`."""
        self.check()
        with TRANSLATED, self.env.begin() as txn:
            yield txn

    @contextmanager
    def writing(self) -> Iterator["Txn[bytes]"]:
        """A write txn that commits at the end of the block, or leaves nothing behind. Raises `StoreError`.

        The same thread has to begin and end it, and there may be no await inside. After a `StoreError` the store
        refuses all further use: what LMDB holds in memory may no longer be what is on the disk.
        """
        self.check()
        assert os.getpid() == self._pid, "an env never crosses a fork"
        if self._readonly:
            raise NotWritable("the store was opened for reading only")
        try:
            with TRANSLATED:
                self.on_step("lock_wanted")
                with self.env.begin(write=True) as txn:
                    self.on_step("locked")
                    yield txn
                    self.on_step("state_commit")
                self.on_step("state_committed")
        except StoreError as error:
            self._ended_by = str(error) or type(error).__name__
            raise
