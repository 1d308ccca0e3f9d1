"""Reads all of a log, for tests that look at what came out."""

from relay.protocol.frame import MessageFrame, iter_messages, parse_frame
from relay.store.store import Store

_BYTES_A_READ = 1 << 20


class LogReader:
    """Everything in the log of a store, from its floor on."""

    def __init__(self, store: Store) -> None:
        self._reader = store.reader()
        self._position = store.tip().floor - 1

    def messages(self) -> list[bytes]:
        """What was appended since the last call, as it goes to consumers."""
        found: list[bytes] = []
        while (part := self._reader.read(self._position, _BYTES_A_READ)) is not None:
            found += iter_messages(bytes(part.data))
            self._position = part.last_seq
        return found

    def frames(self) -> list[MessageFrame]:
        """As `messages`, decoded."""
        return [_decoded(message) for message in self.messages()]


def _decoded(message: bytes) -> MessageFrame:
    frame = parse_frame(message)
    assert isinstance(frame, MessageFrame)
    return frame
