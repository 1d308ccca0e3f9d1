"""Taking the content of accounts out of the window: the one exception to invariant 5, at an operator's word.

Each message of such an account becomes its `#account` of a takedown, under the same seq and with the time of its chunk,
so seqs stay without a gap and readers keep their places. The active segment is sealed first; then one sealed segment
after the other is copied with the changes and replaced, in bounded reads. A second run over the same log changes
nothing, so a run that was cut off is simply run again.
"""

from collections.abc import Collection
from functools import partial

from relay.protocol.errors import ProtocolError
from relay.protocol.frame import MessageFrame, account_frame, iter_messages, message_header, parse_frame
from relay.store.errors import Corrupt
from relay.store.heal import catch_up, rolled
from relay.store.layout import write_log_row
from relay.store.segments import SegmentGone, Segments
from relay.store.state import OnStep, State


def seal(state: State, segments: Segments) -> tuple[int, ...]:
    """Let the next append begin a new segment. Returns the names of all sealed ones. Raises `StoreError`."""
    with state.writing() as txn:
        row = catch_up(state, segments, txn)
        if row.active_time_ms:
            row = rolled(row)
            write_log_row(state.env, txn, row)
    return tuple(name for name in segments.names() if name < row.active)


def purge_segment(state: State, segments: Segments, name: int, dids: Collection[str]) -> int:
    """Replace what these accounts have in a sealed segment. Returns how many messages. Raises `StoreError`.

    Only in the one thread that does retention. A segment that is out of the window by now holds nothing.
    """
    try:
        return segments.rewrite(name, partial(_without, state.on_step, dids)) if _holds(segments, name, dids) else 0
    except SegmentGone:
        return 0


def _holds(segments: Segments, name: int, dids: Collection[str]) -> bool:
    """Whether the text of any of the DIDs is in a segment: a cheap look, before a copy is made."""
    texts = [did.encode() for did in dids]
    return any(
        text in chunk
        for entries in segments.entries(name, active=False)
        for _, chunk, _ in entries
        if chunk is not None
        for text in texts
    )


def _without(on_step: OnStep, dids: Collection[str], chunk: bytes, first_seq: int, time_ms: int) -> tuple[bytes, int]:
    """A chunk with the messages of these accounts replaced, and how many that were."""
    if not any(did.encode() in chunk for did in dids):
        return chunk, 0
    parts: list[bytes] = []
    replaced = 0
    for seq, message in enumerate(iter_messages(chunk), first_seq):
        did = next((did for did in dids if did.encode() in message and _is_of(did, message)), None)
        frame = message if did is None else account_frame(did, time_ms, False, "takendown").with_seq(seq)
        replaced += frame != message
        parts += (message_header(len(frame)), frame)
    on_step("chunk_purged")
    return b"".join(parts), replaced


def _is_of(did: str, message: bytes) -> bool:
    try:
        frame = parse_frame(message)
    except ProtocolError as error:
        raise Corrupt(f"a stored message cannot be read: {error}") from error
    return isinstance(frame, MessageFrame) and did in (frame.payload.get("repo"), frame.payload.get("did"))
