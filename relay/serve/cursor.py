"""Where a consumer starts: the rules for the `cursor` parameter as one pure function.

Everything that decides what a cursor means is in this file (protocol.md section 19.2, design section 5 "Cursor edges").
A cursor is the last seq a consumer has processed, so delivery starts right after it. Owns no socket and no store: the
window it judges against is an argument, read by the caller in a fresh txn, because a window that is a poll behind would
call a consumer of a sibling worker a visitor from the future.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from relay.protocol.limits import SEQ_MAX
from relay.store.layout import Raise

_match_digits = re.compile("[0-9]{1,16}").fullmatch


class Start(NamedTuple):
    """Deliver everything after `after_seq`; `outdated` asks for the `#info` frame OutdatedCursor first.

    `whole` says that it is the start of the window, wherever that is by the time of the first read.
    """

    after_seq: int
    outdated: bool = False
    whole: bool = False


class Future(NamedTuple):
    """The cursor lies beyond everything issued: the error frame FutureCursor, then close."""

    cursor: int
    tip_seq: int


class Bad(NamedTuple):
    """Not a cursor at all: a 400 before the upgrade. `message` is for the consumer's developer."""

    message: str


def parse_cursor(texts: Sequence[str]) -> int | Bad | None:
    """The values of all `cursor` parameters of a request as a number, None when there is none (checklist 6).

    Sixteen digits hold every seq; `int` alone would forgive signs, spaces, underscores and digits of other scripts.
    """
    if not texts:
        return None
    if len(texts) > 1:
        return Bad("cursor is given more than once")
    if _match_digits(texts[0]) is None or int(texts[0]) > SEQ_MAX:
        return Bad(f"cursor must be a whole number from 0 to {SEQ_MAX}, in digits only")
    return int(texts[0])


def find_start(cursor: int | None, *, floor_seq: int, tip_seq: int, raises: Sequence[Raise] = ()) -> Start | Future:
    """Where a consumer with this cursor begins in a window `floor_seq..tip_seq` (checklist 34 to 39 and 45).

    An empty window has `floor_seq == tip_seq + 1`. A cursor inside a raise stands for the end of it, where the next
    event is: the raise by itself makes it neither outdated nor future.
    """
    if cursor is None:
        return Start(tip_seq)
    if cursor == 0:
        return Start(floor_seq - 1, whole=True)
    for jump in raises:
        if jump.before_seq <= cursor < jump.after_seq:
            cursor = jump.after_seq - 1
    if cursor > tip_seq:
        return Future(cursor, tip_seq)
    if cursor < floor_seq - 1:
        return Start(floor_seq - 1, outdated=True, whole=True)
    return Start(cursor)


def moved_start(start: Start, floor_seq: int) -> Start:
    """Where to begin instead of `start`, which retention has overtaken before anything was sent.

    Whoever was to get the whole window gets it from its new floor, without a second word. To anybody else the same is
    to be said as if the connection had come a moment later.
    """
    return Start(floor_seq - 1, outdated=not start.whole, whole=True)
