"""`relay inspect DATA_DIR`: the audit of a store at rest, in lines for people.

Owns what is printed, the look at each event that `--deep` adds, and that no relay is at work meanwhile. What a sound
store is, `relay.store.inspect` knows. Nothing is changed, lock files included.
"""

import argparse
import sys
from pathlib import Path

from relay.app.config import ConfigError
from relay.app.lock import at_rest
from relay.protocol.errors import ProtocolError
from relay.protocol.events import CommitEvent, SyncEvent, parse_event
from relay.protocol.frame import MessageFrame, parse_frame
from relay.store.errors import Corrupt
from relay.store.inspect import Audit, no_progress, seq_fault
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.modes import LENIENT
from relay.verify.ops import check_ops
from relay.verify.reasons import explain
from relay.verify.signature import verify_signature
from relay.verify.signed import SignedSlice, read_slice
from relay.verify.tree import check_tree
from relay.verify.verdict import Drop, Reason

_BAR_CHARS = 40


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("data_dir", metavar="DATA_DIR", type=Path, help="of a relay that does not run, or of a copy")
    parser.add_argument("--deep", action="store_true", help="verify the signature and operations of every event again")


def run(arguments: argparse.Namespace) -> int:
    """Look at everything; 1 when something is wrong. Raises ConfigError for a folder in use, StoreError."""
    data_dir: Path = arguments.data_dir
    with at_rest(data_dir) as is_at_rest:
        if not is_at_rest:
            raise ConfigError(f"DATA_DIR: a relay is at work in {data_dir}: stop it, or look at a copy (relay backup)")
        try:
            found, remarks = _audit(data_dir, deep=arguments.deep)
        except Corrupt as error:
            print(f"problem: {error.told}", file=sys.stderr)
            return 1
    for line in [*_lines(found), *remarks]:
        print(line)
    for line in found.findings:
        print(f"problem: {line}", file=sys.stderr)
    return 1 if found.findings else 0


def _audit(data_dir: Path, *, deep: bool) -> tuple[Audit, list[str]]:
    store = Store.open(data_dir, LogSettings(), readonly=True, alone=True)
    try:
        again = SecondLook(store)
        judge_frame = again.judge if deep else seq_fault
        found = store.audit(judge_frame=judge_frame, progress=_show if sys.stderr.isatty() else no_progress)
    finally:
        store.close()
    return found, again.remarks()


def _show(done: int, of: int) -> None:
    filled = _BAR_CHARS * done // of if of else _BAR_CHARS
    end = "\n" if done == of else ""
    print(f"\r[{'#' * filled:<{_BAR_CHARS}}] {done} of {of} segments", end=end, file=sys.stderr, flush=True)


def _lines(found: Audit) -> list[str]:
    return [
        f"log: {found.frames:,} events in {found.chunks:,} chunks, {found.segments:,} segments",
        f"state: {found.accounts:,} accounts, {found.hosts:,} hosts",
    ]


class SecondLook:
    """Judges stored events each by itself, as far as that needs nothing that may have changed since."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._other_keys = 0

    def judge(self, seq: int, frame: bytes) -> str | None:
        """What is wrong with a stored frame, None for nothing."""
        fault = seq_fault(seq, frame)
        if fault is not None:
            return fault
        parsed = parse_frame(frame)
        assert isinstance(parsed, MessageFrame), "a fault of its seq otherwise"
        try:
            event = parse_event(parsed, allow_localhost=True)
        except ProtocolError as error:
            return str(error)
        if not isinstance(event, CommitEvent | SyncEvent):
            return None
        drop = self._signed(event)
        return None if drop is None else f"{event.did}: {drop.reason}: {drop.detail or explain(Reason(drop.reason))}"

    def _signed(self, event: CommitEvent | SyncEvent) -> Drop | None:
        signed = read_slice(event)
        if isinstance(signed, Drop):
            return signed
        self._check_key(event.did, signed)
        if isinstance(event, SyncEvent):
            return None
        sound = check_ops(event.ops, LENIENT)
        if isinstance(sound, Drop):
            return sound
        proof = check_tree(event, signed, sound, LENIENT, first=False)
        return proof if isinstance(proof, Drop) else None

    def _check_key(self, did: str, signed: SignedSlice) -> None:
        """An account may have another key by now, and its document may be forgotten; so this is counted, no fault."""
        with self._store.view() as view:
            identity = view.identity(did)
        key = identity.key if identity is not None else None
        self._other_keys += key is None or not verify_signature(key, signed.commit.digest, signed.commit.sig)

    def remarks(self) -> list[str]:
        """What is no fault by itself, as lines."""
        if not self._other_keys:
            return []
        return [f"{self._other_keys:,} events are not signed by the key that the state has for their account by now"]
