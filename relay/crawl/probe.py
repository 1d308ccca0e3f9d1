"""Has a host restarted its seqs? Its whole window is read once and thrown away, to see how high its seqs go.

Owns the judgement and its bounds. What is read here reaches nobody: if the host did restart, it is read again from the
beginning in a new epoch, where the versions of the account rows let through only what is new (design section 4, "A host
that restarted its seqs").
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import trio

from relay.net.subscription_socket import Subscription
from relay.protocol.errors import FramingError
from relay.protocol.frame import ErrorFrame, MessageFrame, parse_frame

QUIET_SECONDS = 10.0  # nothing for so long: the window is at its end
PRESENT_SECONDS = 30.0  # an event this young: the window is at its end, on a host that is never quiet
READ_SECONDS_MAX = 600.0


class Finding(StrEnum):
    """What a probe found. `UNDECIDED`: the window did not end in time, or the host hung up."""

    RESTARTED = "restarted"
    EMPTY = "empty"
    NOT_RESTARTED = "not_restarted"
    UNDECIDED = "undecided"


class WindowHeight:
    """How high the seqs of a window go, compared with our cursor. Pure; `now_ms` is the wall clock."""

    def __init__(self, cursor: int) -> None:
        self._cursor = cursor
        self._highest: int | None = None
        self._is_present = False
        self._is_broken = False

    def take(self, messages: Sequence[bytes], now_ms: int) -> None:
        """Look at messages of the window, in order."""
        for message in messages:
            try:
                frame = parse_frame(message)
            except FramingError:
                self._is_broken = True
                return
            if isinstance(frame, ErrorFrame):
                self._is_broken = True
                return
            if isinstance(frame, MessageFrame):
                self._look(frame, now_ms)

    def _look(self, frame: MessageFrame, now_ms: int) -> None:
        seq = frame.payload.get("seq")
        if type(seq) is int and seq >= 0:
            self._highest = seq if self._highest is None else max(self._highest, seq)
        try:
            moment = datetime.fromisoformat(frame.payload.get("time", "")).timestamp()
        except (TypeError, ValueError, OverflowError):
            return
        self._is_present = now_ms / 1_000 - moment < PRESENT_SECONDS

    @property
    def early(self) -> Finding | None:
        """A finding that need not wait for silence."""
        if self._is_broken:
            return Finding.UNDECIDED
        if self._highest is not None and self._highest >= self._cursor:
            return Finding.NOT_RESTARTED
        return Finding.RESTARTED if self._is_present else None

    @property
    def at_end(self) -> Finding:
        """The finding once the window has ended."""
        return self.early or (Finding.EMPTY if self._highest is None else Finding.RESTARTED)


async def find_out(subscription: Subscription, cursor: int, now_ms: int) -> Finding:
    """Read the window of a connection that was opened with cursor 0. `now_ms` is when. Raises `NetError`."""
    height = WindowHeight(cursor)
    began = trio.current_time()
    with trio.move_on_after(READ_SECONDS_MAX):
        while True:
            with trio.move_on_after(QUIET_SECONDS) as quiet:
                messages = await subscription.receive()
            if quiet.cancelled_caught:
                return height.at_end
            height.take(messages, now_ms + int((trio.current_time() - began) * 1_000))
            if height.early is not None:
                return height.early
    return Finding.UNDECIDED
