"""What can be wrong with our own disk or data, as one small family of exceptions (design section 7).

A `StoreError` ends the worker: after one that happened while writing, the `Store` object refuses all further use, and a
fresh one heals what was left half-done. `BelowWindow` is no fault of anybody: a reader was slower than retention.
The names are those of the design, so they do not end in "Error".
"""


class StoreError(Exception):
    """The disk or our own data failed us. Never raised itself; the message is for the operator, the class for code."""


class MapFull(StoreError):  # noqa: N818 -- named by the design
    """The address space reserved for an env is used up."""


class DiskFull(StoreError):  # noqa: N818 -- named like MapFull
    """No space, quota or file size left; or a write was cut short, which a failing disk can do as well."""


class NotWritable(StoreError):  # noqa: N818 -- named like MapFull
    """The file system or its permissions do not let us write."""


class Corrupt(StoreError):  # noqa: N818 -- named by the design
    """Data that cannot be as we wrote it: damaged pages, a hole in the log, a log that is behind its state."""


class LayoutMismatch(StoreError):  # noqa: N818 -- named by the design
    """The folder is not a relay's, or was written by a version with another layout. Nothing in it was touched."""


class Restored(StoreError):  # noqa: N818 -- named like MapFull
    """The data is a copy that was not started as a relay yet: its seqs have to be raised first."""


class ReadersFull(StoreError):  # noqa: N818 -- named like MapFull
    """More read txns at once than the env has slots for."""


class EnvFailed(StoreError):  # noqa: N818 -- named like MapFull
    """An I/O error, or LMDB refused an operation for a reason that is none of the others."""


class StoreClosed(StoreError):  # noqa: N818 -- named like MapFull
    """The store was closed, or an earlier error ended its use."""


class BelowWindow(LookupError):  # noqa: N818 -- a condition, not a fault
    """The position asked for was removed by retention. `floor_seq` is the first seq that is still there."""

    def __init__(self, floor_seq: int) -> None:
        super().__init__(f"below the backfill window, which starts at {floor_seq}")
        self.floor_seq = floor_seq
