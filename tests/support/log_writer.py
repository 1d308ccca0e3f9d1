"""Puts events into a real store for tests of whoever reads it, and remembers what a consumer has to see."""

from relay.protocol.frame import FrameTemplate, template
from relay.protocol.syntax import format_datetime
from relay.store.batch import Batch, Item
from relay.store.store import Store
from relay.verify.facts import AccountState

START_MS = 1_790_000_000_000
HOSTNAME = "pds.example.com"


def did_of(number: int) -> str:
    """The `number`th account, in order of DIDs."""
    digits = ""
    for _ in range(24):
        number, digit = divmod(number, 25)
        digits = chr(ord("a") + digit) + digits
    return f"did:plc:{digits}"


class LogWriter:
    """One ingest worker's appends, without the ingest. `frames` maps every seq to the frame that was appended."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.frames: dict[int, bytes] = {}
        self.time_ms = START_MS
        self._versions: dict[str, int] = {}
        self._upstream_seq = 0
        self.host = store.add_host(HOSTNAME, insecure=False, now_ms=START_MS, status="active")

    @property
    def tip(self) -> int:
        return self.store.tip().seq

    def append(self, count: int = 1, *, pad_bytes: int = 0, after_ms: int = 10) -> list[int]:
        """One batch of `count` events, each with `pad_bytes` of ballast, later than the last. Returns their seqs."""
        self.time_ms += after_ms
        templates = [self._template(pad_bytes) for _ in range(count)]
        items = tuple(self._item(did_of(0), AccountState(host_id=self.host.host_id), each) for each in templates)
        appended = self.store.append(Batch(self.time_ms, items))
        assert not appended.refused
        seqs = list(range(appended.first_seq, appended.tip_seq + 1))
        self.frames |= {seq: each.with_seq(seq) for seq, each in zip(seqs, templates, strict=True)}
        return seqs

    def put_account(self, did: str, state: AccountState) -> None:
        """Set an account's row, with an event like any other."""
        self.time_ms += 10
        each = self._template(0)
        appended = self.store.append(Batch(self.time_ms, (self._item(did, state, each),)))
        self.frames[appended.tip_seq] = each.with_seq(appended.tip_seq)

    def after(self, seq: int) -> list[bytes]:
        """What a consumer with this cursor has to get."""
        return [frame for each, frame in sorted(self.frames.items()) if each > seq]

    def _template(self, pad_bytes: int) -> FrameTemplate:
        payload = {"did": did_of(0), "time": format_datetime(self.time_ms), "active": True, "pad": "x" * pad_bytes}
        return template("#account", payload)

    def _item(self, did: str, state: AccountState, frame: FrameTemplate) -> Item:
        if did not in self._versions:
            with self.store.view() as view:
                row = view.account(did)
            self._versions[did] = row.version if row is not None else 0
        version = self._versions[did]
        self._versions[did] += 1
        self._upstream_seq += 1
        return Item(did, version, state, frame, self.host.host_id, self._upstream_seq)
