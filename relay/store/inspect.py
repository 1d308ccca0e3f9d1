"""The audit of a store at rest: does the log hold together, and does the state follow from it.

Reads everything in bounded txns and reports in words; it never repairs. On a store that is in use the log part still
holds, the counts of the state may be off by what was appended meanwhile. What an append left half-done and what a copy
will be raised over are no findings: the next start sees to both. What frames mean is judged by the caller through
`judge_frame`; `seq_fault` is the judgement the store itself can make.
"""

from collections.abc import Callable
from typing import NamedTuple

from relay.protocol.errors import ProtocolError
from relay.protocol.frame import MessageFrame, parse_frame
from relay.store.inspectlog import JudgeFrame, LogAudit
from relay.store.inspectstate import StateAudit
from relay.store.segments import Segments
from relay.store.state import State

FINDINGS_MAX = 100

Progress = Callable[[int, int], None]


class Audit(NamedTuple):
    """What was looked at, and what is wrong: at most `FINDINGS_MAX` lines, none for a sound store."""

    segments: int
    chunks: int
    frames: int
    accounts: int
    hosts: int
    findings: tuple[str, ...]


def seq_fault(seq: int, frame: bytes) -> str | None:
    """What is wrong with a stored frame as far as its form and its seq go."""
    try:
        parsed = parse_frame(frame)
    except ProtocolError as error:
        return str(error)
    if not isinstance(parsed, MessageFrame):
        return "not a message"
    found = parsed.payload.get("seq")
    return None if found == seq else f"carries seq {found}"


def no_progress(done: int, of: int) -> None:
    """Nobody looks."""


def audit(
    state: State, segments: Segments, *, judge_frame: JudgeFrame = seq_fault, progress: Progress = no_progress
) -> Audit:
    """Look at the whole store. `judge_frame(seq, frame)` answers None or a fault; `progress(done, of)` counts segments.

    Raises `StoreError` when it cannot be told how the log stands.
    """
    findings: list[str] = []

    def find(text: str) -> None:
        if len(findings) < FINDINGS_MAX:
            findings.append(text)

    log = LogAudit(state, segments, judge_frame, find)
    names = segments.names()
    for done, name in enumerate(names):
        progress(done, len(names))
        log.segment(name)
    log.end()
    progress(len(names), len(names))
    rows = StateAudit(state, find)
    rows.run()
    return Audit(len(names), log.chunks, log.frames, rows.accounts, rows.hosts, tuple(findings))
