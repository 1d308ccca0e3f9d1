"""The three answers of verification, and the closed list of reasons for a drop.

A `Reason` has one meaning, one counter label and one test (design invariant 11). Its text is the label; `explain` says
the same in words for the owner of a PDS, with the rule's source.
"""

from enum import StrEnum
from typing import NamedTuple

from relay.verify.facts import AccountState, Facts


class Reason(StrEnum):
    """Why an event that was received is not passed on. Grouped by the step of protocol.md section 14 that says it."""

    # 1. wire
    FRAMING = "framing"
    MESSAGE_NOT_BINARY = "message_not_binary"
    MESSAGE_TOO_BIG = "message_too_big"
    UNKNOWN_OP = "unknown_op"
    UNKNOWN_TYPE = "unknown_type"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_INFO = "upstream_info"
    # 2. sequence of the connection
    SEQ_INVALID = "seq_invalid"
    SEQ_NOT_INCREASING = "seq_not_increasing"
    REPLAYED = "replayed"
    # 3. schema
    SCHEMA = "schema"
    OPS_TOO_MANY = "ops_too_many"
    BLOCKS_EMPTY = "blocks_empty"
    BLOCKS_TOO_BIG = "blocks_too_big"
    DID_INVALID = "did_invalid"
    DID_UNSUPPORTED = "did_unsupported"
    REV_INVALID = "rev_invalid"
    # 4-6. host and identity
    HOST_BANNED = "host_banned"
    HOST_QUOTA = "host_quota"
    HOST_MISMATCH = "host_mismatch"
    IDENTITY_UNRESOLVED = "identity_unresolved"
    IDENTITY_INCOMPLETE = "identity_incomplete"
    IDENTITY_TOMBSTONED = "identity_tombstoned"
    # 7. hosting status
    ACCOUNT_INACTIVE = "account_inactive"
    ACCOUNT_TAKENDOWN = "account_takendown"
    ACCOUNT_THROTTLED = "account_throttled"
    # 8. rev
    REV_NOT_NEWER = "rev_not_newer"
    REV_IN_FUTURE = "rev_in_future"
    # 9. slice
    CAR_INVALID = "car_invalid"
    BLOCK_HASH_MISMATCH = "block_hash_mismatch"
    RECORD_TOO_BIG = "record_too_big"
    # 10. commit block
    COMMIT_MISSING = "commit_missing"
    COMMIT_CID_MISMATCH = "commit_cid_mismatch"
    COMMIT_INVALID = "commit_invalid"
    COMMIT_DID_MISMATCH = "commit_did_mismatch"
    COMMIT_REV_MISMATCH = "commit_rev_mismatch"
    # 11. signature
    SIGNATURE_FORMAT = "signature_format"
    SIGNATURE_INVALID = "signature_invalid"
    # 12. operations by themselves
    OPS_INVALID = "ops_invalid"
    OP_DUPLICATE_PATH = "op_duplicate_path"
    OP_PREV_MISSING = "op_prev_missing"
    # 13-16. operations and tree
    PREV_DATA_MISSING = "prev_data_missing"
    MST_INVALID = "mst_invalid"
    SLICE_INCOMPLETE = "slice_incomplete"
    RECORD_MISSING = "record_missing"
    OP_NOT_IN_TREE = "op_not_in_tree"
    INVERSION_MISMATCH = "inversion_mismatch"
    # 19. emission
    FRAME_TOO_BIG = "frame_too_big"


class Accept(NamedTuple):
    """The event passes. `state` is the account row it leaves behind, with `version` still that of the row before.

    Of commits only: `chain_break` says that `prevData` is not the tree that was stored, `since_differs` that `since` is
    not the rev that was. `proven`: the ops lead back to the `prevData` that is named; `unproven`: nothing shows that
    they are all (`relay.verify.modes`). A first commit that names no `prevData`, and one without ops, is neither.
    """

    state: AccountState
    chain_break: bool = False
    since_differs: bool = False
    proven: bool = False
    unproven: bool = False


class Drop(NamedTuple):
    """The event is not passed on. `detail` is one short line for the owner; it never holds a peer's text verbatim."""

    reason: Reason
    detail: str = ""


class Refresh(NamedTuple):
    """The answer depends on a DID document read afresh; once it was, the verdict is `otherwise` if nothing changed."""

    otherwise: Drop


class Recheck(NamedTuple):
    """The account's host said that it is inactive and sends content all the same: ask it; `otherwise` if that holds."""

    otherwise: Drop


Verdict = Accept | Drop | Refresh | Recheck


def unless_fresh(drop: Drop, facts: Facts) -> Drop | Refresh:
    """The drop that follows from a DID document: final once it was read for this very event."""
    return drop if facts.refreshed else Refresh(drop)
