"""What lies where: folder and sub-db names, keys, the layout version, and the small row that says how the log stands.

Values that belong to one kind of thing are packed in its own module (`accounts`, `hosts`, `identities`, `notes`,
`effects`). Changing anything that is read from disk means a new `LAYOUT_VERSION`.
"""

import struct
from typing import NamedTuple

from relay.store.env import Env, Txn
from relay.store.errors import UNREADABLE, Corrupt, Unpacking

LAYOUT_VERSION = b"atproto-relay 1"

STATE_FOLDER = "state"
STATE_UNFINISHED = "state.new"
LOG_FOLDER = "log"
# What a folder may hold before the first start: the supervisor makes its lock and its sockets there first.
FOLDERS_BEFORE_CREATION = frozenset({"lock", "run", "lost+found", LOG_FOLDER, STATE_UNFINISHED})

ACCOUNTS = b"accounts"
IDENTITIES = b"identities"
HOSTS = b"hosts"
HOSTNAMES = b"hostnames"
THROTTLED = b"throttled"
REASONS = b"reasons"
POLICY = b"policy"
META = b"meta"
STATE_DBS = (ACCOUNTS, IDENTITIES, HOSTS, HOSTNAMES, THROTTLED, REASONS, POLICY, META)

CHUNKS = b"chunks"
EFFECTS = b"effects"
SEGMENT_DBS = (CHUNKS, EFFECTS)

META_LAYOUT = b"layout"
META_LOG = b"log"
META_RAISES = b"raises"
META_GENERATION = b"generation"
META_RESTORED = b"restored"

KEY_BYTES_MAX = 511  # of LMDB
DID_KEY_BYTES_MAX = 480  # part of longer keys; a supported DID (plc, or web of a bare hostname) has at most 261

_U64 = struct.Struct(">Q")
_LOG_ROW = struct.Struct("<QQQQQQ")
_RAISE = struct.Struct(">QQ")

u64 = _U64.pack


def u64_of(data: bytes | memoryview) -> int:
    """The number in a key. Raises `Corrupt`."""
    try:
        number: int = _U64.unpack(data)[0]
    except UNREADABLE as error:
        raise Corrupt(f"a number of {len(data)} bytes") from error
    return number


def did_key(did: str) -> bytes | None:
    """The key of a DID in any sub-db; None for one that is too long or not ASCII, and so is not supported."""
    if len(did) > DID_KEY_BYTES_MAX or not did or not did.isascii():
        return None
    return did.encode()


def did_of(key: bytes) -> str:
    """The other way. Raises `Corrupt`."""
    with Unpacking("the key of a DID"):
        return key.decode("ascii")


class LogRow(NamedTuple):
    """How the log stands as far as the state has caught up; read by every poll.

    `applied_seq` is the tip. `floor_seq` is the first seq of the window, `applied_seq + 1` when the window is empty,
    and `floor_time_ms` the time of its chunk, 0 when empty. `active` names the segment that is appended to; its folder
    is made by the next append when it is not there yet. `active_time_ms` is the time of its first chunk, 0 without one.
    """

    applied_seq: int
    time_ms: int
    floor_seq: int
    floor_time_ms: int
    active: int
    active_time_ms: int


class Raise(NamedTuple):
    """A recorded jump of the sequence: after `before_seq` comes `after_seq`; the seqs between were never issued."""

    before_seq: int
    after_seq: int


def read_log_row(env: Env, txn: "Txn[bytes]") -> LogRow:
    """How the log stands in this snapshot. Raises `Corrupt`."""
    data = txn.get(META_LOG, db=env.db[META])
    if data is None:
        raise Corrupt("the state does not say how the log stands")
    with Unpacking("how the log stands"):
        return LogRow._make(_LOG_ROW.unpack(data))


def write_log_row(env: Env, txn: "Txn[bytes]", row: LogRow) -> None:
    """Part of every txn that moves tip, floor or active segment."""
    txn.put(META_LOG, _LOG_ROW.pack(*row), db=env.db[META])


def read_raises(env: Env, txn: "Txn[bytes]") -> tuple[Raise, ...]:
    """The raises that concern the window, oldest first. Raises `Corrupt`."""
    with Unpacking("the raises"):
        return tuple(Raise._make(pair) for pair in _RAISE.iter_unpack(txn.get(META_RAISES, b"", db=env.db[META])))


def write_raises(env: Env, txn: "Txn[bytes]", raises: tuple[Raise, ...]) -> None:
    """Replace them."""
    txn.put(META_RAISES, b"".join(_RAISE.pack(*jump) for jump in raises), db=env.db[META])


def read_generation(env: Env, txn: "Txn[bytes]") -> int:
    """How often an operator changed something that workers may hold in memory."""
    return u64_of(txn.get(META_GENERATION, u64(0), db=env.db[META]))


def bump_generation(env: Env, txn: "Txn[bytes]") -> None:
    """Let every worker look again."""
    txn.put(META_GENERATION, u64(read_generation(env, txn) + 1), db=env.db[META])
