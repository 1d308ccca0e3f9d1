"""What a simulated host has to send: its numbered events, and faults planted between them.

Owns the seqs of one host, its window, and what it would say about its accounts. Pure data; `relay.world.host` serves
it.
"""

from bisect import bisect_right
from typing import NamedTuple

from relay.world.messages import Message


class HostedAccount(NamedTuple):
    """An account as its host tells of it in `getRepoStatus`. `rev` is empty before the first commit."""

    active: bool = True
    status: str | None = None
    rev: str = ""


class _Entry(NamedTuple):
    """Bytes as they go on the wire. A planted fault has the seq of the event before it."""

    seq: int
    wire: bytes


class EventWindow:
    """The events of one host, oldest first; the oldest go when there are more than `entries_max`."""

    def __init__(self, *, first_seq: int = 1, entries_max: int = 100_000) -> None:
        self.tip = first_seq - 1
        self.accounts: dict[str, HostedAccount] = {}
        self._entries: list[_Entry] = []
        self._dropped = 0
        self._entries_max = entries_max

    @property
    def floor(self) -> int:
        """The oldest seq that can be replayed; beyond the tip when there is none."""
        return self._entries[0].seq if self._entries else self.tip + 1

    def emit(self, message: Message, now_ms: int) -> int:
        """Numbers `message`, stores its frame and answers its seq."""
        before = self.accounts.get(message.did, HostedAccount())
        if message.type == "#account":
            status = message.payload.get("status")
            is_active = message.payload["active"] is True
            self.accounts[message.did] = HostedAccount(is_active, str(status) if status else None, before.rev)
        elif message.rev:
            self.accounts[message.did] = before._replace(rev=message.rev)
        self.append(message.frame(self.tip + 1, now_ms), self.tip + 1)
        return self.tip

    def append(self, frame: bytes, seq: int) -> None:
        """Stores a finished frame that carries `seq`, which must rise."""
        assert seq > self.tip
        self.tip = seq
        self._store(_Entry(seq, websocket_message(frame)))

    def plant(self, wire: bytes) -> None:
        """Sends `wire` as it is, after the newest event: WebSocket messages of any kind, or garbage.

        A reader that comes back with the cursor of that event does not get it again.
        """
        self._store(_Entry(self.tip, wire))

    def expire(self, seq: int) -> None:
        """Forgets everything below `seq`, as after the window's time."""
        self._drop(bisect_right(self._entries, seq - 1, key=lambda entry: entry.seq))

    def restart(self) -> None:
        """Forgets everything and numbers from 1 again, as a host that lost its database."""
        self._drop(len(self._entries))
        self.tip = 0

    def position(self, cursor: int | None) -> int:
        """Where a reader starts: after `cursor`, or at the end without one. Only `read` understands it."""
        if cursor is None:
            return self._dropped + len(self._entries)
        return self._dropped + bisect_right(self._entries, cursor, key=lambda entry: entry.seq)

    def read(self, position: int, bytes_max: int) -> tuple[bytes, int]:
        """What follows `position`: at least one entry, further ones up to `bytes_max`; and the next position."""
        index = max(position - self._dropped, 0)
        parts: list[bytes] = []
        size = 0
        while index < len(self._entries) and (not parts or size + len(self._entries[index].wire) <= bytes_max):
            parts.append(self._entries[index].wire)
            size += len(parts[-1])
            index += 1
        return b"".join(parts), self._dropped + index

    def _store(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if len(self._entries) > 2 * self._entries_max:  # twice, so that the list is not shifted for each event
            self._drop(self._entries_max)

    def _drop(self, count: int) -> None:
        del self._entries[:count]
        self._dropped += count


def websocket_message(data: bytes, *, opcode: int = 2) -> bytes:
    """One final, unmasked WebSocket frame around `data`, as servers send it: opcode 2 is binary, 1 text."""
    size = len(data)
    if size < 126:
        length = bytes([size])
    elif size < 65_536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + data
