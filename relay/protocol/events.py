"""The five messages of `subscribeRepos` as values: field names and types after the lexicon, nothing judged.

CIDs are their 36 binary bytes (`01 71 12 20` + SHA-256); text forms belong to `relay.protocol.cid`. `parse_event` is
the schema check of protocol.md section 14 step 3: it knows required keys, types, nullability and the limits of
`relay.protocol.limits`, and raises `SchemaError`. Deprecated fields may be missing or hold anything (checklist 61, 62).

Rulings. `time` may be any text (checklist 77). A key that the lexicon makes optional but not nullable must not be null.
`commit`, `prevData` and an op's `cid` name objects that we verify and must be dag-cbor CIDs; an op's `prev` is only
ever compared with a leaf of the tree, where a raw CID is tolerated (protocol.md section 24, #16). What an op means
(actions, paths, which of `cid` and `prev` it must have) is judged in `relay.verify` (step 12).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from relay.protocol import limits
from relay.protocol.cbor import Link
from relay.protocol.cid import DAG_CBOR_PREFIX
from relay.protocol.errors import (
    BadDid,
    BadRev,
    BadSeq,
    BlocksEmpty,
    BlocksTooBig,
    SchemaError,
    TooManyOps,
    UnsupportedDid,
)
from relay.protocol.frame import MessageFrame
from relay.protocol.syntax import is_did, is_handle, is_supported_did, is_tid


class RepoOp(NamedTuple):
    """One record change of a commit (protocol.md 3.1). `prev` is None when the key is absent."""

    action: str
    path: str
    cid: bytes | None
    prev: bytes | None


class CommitEvent(NamedTuple):
    """`#commit`. `prev_data` is None when the key is absent; `blocks` is the CAR slice as it came."""

    seq: int
    did: str
    rev: str
    since: str | None
    commit: bytes
    prev_data: bytes | None
    ops: tuple[RepoOp, ...]
    blocks: bytes


class SyncEvent(NamedTuple):
    """`#sync`: the repo is now at the commit in `blocks`, whatever came before."""

    seq: int
    did: str
    rev: str
    blocks: bytes


class IdentityEvent(NamedTuple):
    """`#identity`: the DID document or handle may have changed. `handle` is None when absent or not valid syntax."""

    seq: int
    did: str
    handle: str | None


class AccountEvent(NamedTuple):
    """`#account`: hosting status at the sender. `status` is None when absent; its vocabulary is open."""

    seq: int
    did: str
    active: bool
    status: str | None


class InfoEvent(NamedTuple):
    """`#info`: has no seq and belongs to no account."""

    name: str
    message: str | None


AccountScoped = CommitEvent | SyncEvent | IdentityEvent | AccountEvent
Event = AccountScoped | InfoEvent


def parse_event(frame: MessageFrame, *, allow_localhost: bool = False) -> Event:
    """The event in a frame. `allow_localhost` admits the did:web forms of development networks.

    Raises `SchemaError`; its leaves `BadSeq`, `BadDid`, `UnsupportedDid`, `BadRev`, `TooManyOps`, `BlocksEmpty` and
    `BlocksTooBig` where a fault has a reason of its own.
    """
    try:
        return _READERS[frame.type](frame.payload, allow_localhost)
    except KeyError as error:
        raise SchemaError(f"{frame.type} without {error.args[0]}") from error


def _read_commit(payload: dict[str, Any], allow_localhost: bool) -> CommitEvent:
    ops, since, prev_data = payload["ops"], payload["since"], payload.get("prevData")
    if type(ops) is not list:
        raise SchemaError("ops is not an array")
    if len(ops) > limits.OPS_MAX:
        raise TooManyOps(f"{len(ops)} ops")
    if since is not None and not (type(since) is str and is_tid(since)):
        raise SchemaError("since is neither a TID nor null")
    if "prevData" in payload and not _is_dag_cbor_link(prev_data):
        raise SchemaError("prevData is not a dag-cbor CID")
    commit = payload["commit"]
    if not _is_dag_cbor_link(commit):
        raise SchemaError("commit is not a dag-cbor CID")
    return CommitEvent(
        _seq(payload),
        _did(payload, "repo", allow_localhost),
        _rev(payload),
        since,
        commit,
        prev_data,
        tuple([_read_op(op) for op in ops]),
        _blocks(payload, limits.BLOCKS_BYTES_MAX),
    )


def _read_op(op: Any) -> RepoOp:
    if type(op) is not dict:
        raise SchemaError("an op is not a map")
    cid, path, prev, action = op["cid"], op["path"], op.get("prev"), op["action"]
    if cid is not None and not _is_dag_cbor_link(cid):
        raise SchemaError("cid of an op is neither a dag-cbor CID nor null")
    if type(path) is not str or type(action) is not str:
        raise SchemaError("path or action of an op is not text")
    if type(prev) is not Link and "prev" in op:
        raise SchemaError("prev of an op is not a CID")
    return RepoOp(action, path, cid, prev)


def _read_sync(payload: dict[str, Any], allow_localhost: bool) -> SyncEvent:
    return SyncEvent(
        seq=_seq(payload),
        did=_did(payload, "did", allow_localhost),
        rev=_rev(payload),
        blocks=_blocks(payload, limits.SYNC_BLOCKS_BYTES_MAX),
    )


def _read_identity(payload: dict[str, Any], allow_localhost: bool) -> IdentityEvent:
    handle = _optional_text(payload, "handle")
    return IdentityEvent(
        seq=_seq(payload),
        did=_did(payload, "did", allow_localhost),
        handle=handle if handle is not None and is_handle(handle) else None,
    )


def _read_account(payload: dict[str, Any], allow_localhost: bool) -> AccountEvent:
    active, status = payload["active"], _optional_text(payload, "status")
    if type(active) is not bool:
        raise SchemaError("active is not a boolean")
    if status is not None and len(status) > limits.STATUS_CHARS_MAX:
        raise SchemaError("status is too long")
    return AccountEvent(_seq(payload), _did(payload, "did", allow_localhost), active, status)


def _read_info(payload: dict[str, Any], _allow_localhost: bool) -> InfoEvent:
    name = payload["name"]
    if type(name) is not str:
        raise SchemaError("name is not text")
    return InfoEvent(name, _optional_text(payload, "message"))


_READERS: dict[str, Callable[[dict[str, Any], bool], Event]] = {
    "#commit": _read_commit,
    "#sync": _read_sync,
    "#identity": _read_identity,
    "#account": _read_account,
    "#info": _read_info,
}


def _seq(payload: dict[str, Any]) -> int:
    """`seq`, and on the way `time`: both are in every event that belongs to an account."""
    seq = payload.get("seq")
    if type(seq) is not int or not 0 <= seq <= limits.UPSTREAM_SEQ_MAX:
        raise BadSeq("seq is missing or not an unsigned 64-bit integer")
    if type(payload["time"]) is not str:
        raise SchemaError("time is not text")
    return seq


def _did(payload: dict[str, Any], key: str, allow_localhost: bool) -> str:
    did = payload[key]
    if type(did) is not str:
        raise SchemaError(f"{key} is not text")
    if not is_supported_did(did, allow_localhost=allow_localhost):
        raise UnsupportedDid("a DID of an unsupported method") if is_did(did) else BadDid("not DID syntax")
    return did


def _rev(payload: dict[str, Any]) -> str:
    rev = payload["rev"]
    if type(rev) is not str:
        raise SchemaError("rev is not text")
    if not is_tid(rev):
        raise BadRev("rev is not a TID")
    return rev


def _blocks(payload: dict[str, Any], bytes_max: int) -> bytes:
    blocks = payload["blocks"]
    if type(blocks) is not bytes:
        raise SchemaError("blocks is not a byte string")
    if not blocks:
        raise BlocksEmpty("blocks is empty")
    if len(blocks) > bytes_max:
        raise BlocksTooBig(f"blocks has {len(blocks)} bytes")
    return blocks


def _optional_text(payload: dict[str, Any], key: str) -> str | None:
    value = payload.get(key)
    if type(value) is not str and key in payload:
        raise SchemaError(f"{key} is not text")
    return value


def _is_dag_cbor_link(value: Any) -> bool:
    return type(value) is Link and value.startswith(DAG_CBOR_PREFIX)
