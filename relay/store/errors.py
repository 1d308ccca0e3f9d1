"""What can be wrong with our own disk or data, as one small family of exceptions (design section 7).

A `StoreError` ends the worker: after one that happened while writing, the `Store` object refuses all further use, and a
fresh one heals what was left half-done. `BelowWindow` is no fault of anybody: a reader was slower than retention.
The names are those of the design, so they do not end in "Error".

The text of an exception says what was found, in LMDB's words too; `told` is what an operator is shown.
"""

import re
import struct
from types import TracebackType
from typing import ClassVar

# What LMDB and Python put before their texts; it says nothing to people.
_FOREIGN = re.compile(r"MDB_[A-Z_]+: |\[Errno -?\d+\] ")
# What unpacking raises for bytes that are not as we wrote them; msgspec's and Unicode's errors are ValueErrors.
UNREADABLE = (struct.error, ValueError, IndexError)


class StoreError(Exception):
    """The disk or our own data failed us. Never raised itself; `told` is for the operator, the class for code."""

    remedy: ClassVar[str] = ""

    @property
    def told(self) -> str:
        """What is wrong and what to do about it, in one line for an operator."""
        text = _FOREIGN.sub("", str(self))
        return text if not self.remedy or self.remedy in text else f"{text}: {self.remedy}"


class MapFull(StoreError):  # noqa: N818 -- named by the design
    """The address space reserved for an env is used up."""

    remedy = "raise log.state_map_bytes and start the relay again"


class DiskFull(StoreError):  # noqa: N818 -- named like MapFull
    """No space, quota or file size left; or a write was cut short, which a failing disk can do as well."""

    remedy = "make room on the disk of data_dir"


class NotWritable(StoreError):  # noqa: N818 -- named like MapFull
    """The file system or its permissions do not let us write."""

    remedy = "data_dir has to belong to the user of the relay, on a disk that can be written"


class Corrupt(StoreError):  # noqa: N818 -- named by the design
    """Data that cannot be as we wrote it: damaged pages, a hole in the log, a log that is behind its state."""

    remedy = "move data_dir away to begin with an empty log, or put a whole copy of it back (see deploy/README.md)"


class LayoutMismatch(StoreError):  # noqa: N818 -- named by the design
    """The folder is not a relay's, or was written by a version with another layout. Nothing in it was touched."""

    remedy = "set data_dir to another folder, which may be missing or empty"


class Restored(StoreError):  # noqa: N818 -- named like MapFull
    """The data is a copy that was not started as a relay yet: its seqs have to be raised first."""


class ReadersFull(StoreError):  # noqa: N818 -- named like MapFull
    """More read txns at once than the env has slots for."""

    remedy = "restart the relay"


class EnvFailed(StoreError):  # noqa: N818 -- named like MapFull
    """An I/O error, or LMDB refused an operation for a reason that is none of the others."""

    remedy = "the system's log may say more about the disk of data_dir"


class StoreClosed(StoreError):  # noqa: N818 -- named like MapFull
    """The store was closed, or an earlier error ended its use."""


class BelowWindow(LookupError):  # noqa: N818 -- a condition, not a fault
    """The position asked for was removed by retention. `floor_seq` is the first seq that is still there."""

    def __init__(self, floor_seq: int) -> None:
        super().__init__(f"below the backfill window, which starts at {floor_seq}")
        self.floor_seq = floor_seq


class Unpacking:
    """`with Unpacking("host row"):` turns `UNREADABLE` into `Corrupt`. Where it is hot, `except` does the same."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UNREADABLE):
            raise Corrupt(f"{self._what}: {error}") from error
