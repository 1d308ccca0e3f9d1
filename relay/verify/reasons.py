"""From a fault to its reason, and from a reason to words for the owner of a host or an account.

The words say what the rule is and where it stands, because "why am I not heard" is what a relay is asked most.
"""

from relay.protocol.errors import (
    BadDid,
    BadRev,
    BadSeq,
    BlocksEmpty,
    BlocksTooBig,
    ProtocolError,
    SchemaError,
    TooManyOps,
    UnsupportedDid,
)
from relay.verify.verdict import Reason

_SCHEMA_REASONS: dict[type[ProtocolError], Reason] = {
    BadDid: Reason.DID_INVALID,
    UnsupportedDid: Reason.DID_UNSUPPORTED,
    BadRev: Reason.REV_INVALID,
    BadSeq: Reason.SEQ_INVALID,
    TooManyOps: Reason.OPS_TOO_MANY,
    BlocksEmpty: Reason.BLOCKS_EMPTY,
    BlocksTooBig: Reason.BLOCKS_TOO_BIG,
}

_WORDS: dict[Reason, tuple[str, str]] = {
    Reason.FRAMING: (
        "A message was not two maps of strict DAG-CBOR back to back; the connection was closed.",
        "event stream, data model",
    ),
    Reason.MESSAGE_NOT_BINARY: ("A text message arrived where only binary ones are sent.", "event stream"),
    Reason.MESSAGE_TOO_BIG: ("A message was larger than 5,000,000 bytes; the connection was closed.", "sync"),
    Reason.UNKNOWN_OP: ("A frame had an `op` that this relay does not know; it was ignored.", "event stream"),
    Reason.UNKNOWN_TYPE: ("A message type that this relay does not know was ignored.", "event stream"),
    Reason.UPSTREAM_ERROR: ("The host sent an error frame and closed the stream.", "event stream"),
    Reason.UPSTREAM_INFO: ("The host sent an `#info`, which is not passed on.", "event stream"),
    Reason.SEQ_INVALID: ("The `seq` was missing or not an unsigned integer.", "event stream"),
    Reason.SEQ_NOT_INCREASING: ("The `seq` was not above the one before on this connection.", "event stream"),
    Reason.REPLAYED: ("The event was received and settled before.", "event stream"),
    Reason.SCHEMA: ("A field was missing or of the wrong type for its message.", "subscribeRepos lexicon"),
    Reason.OPS_TOO_MANY: ("A commit listed more than 200 operations.", "subscribeRepos lexicon"),
    Reason.BLOCKS_EMPTY: ("The `blocks` were empty.", "sync"),
    Reason.BLOCKS_TOO_BIG: ("The `blocks` were over 2,000,000 bytes (10,000 for `#sync`).", "subscribeRepos lexicon"),
    Reason.DID_INVALID: ("The account's DID is not valid DID syntax.", "did"),
    Reason.DID_UNSUPPORTED: ("The DID's method or form is not one the network uses (did:plc, did:web).", "did"),
    Reason.REV_INVALID: ("The `rev` is not a TID.", "tid"),
    Reason.HOST_BANNED: ("The operator of this relay has banned the host.", "operator"),
    Reason.HOST_QUOTA: ("The host has far more accounts than its limit on this relay.", "operator"),
    Reason.HOST_MISMATCH: ("The account's DID document names another host as its PDS.", "sync, account"),
    Reason.IDENTITY_UNRESOLVED: ("The account's DID document could not be read in time.", "did"),
    Reason.IDENTITY_INCOMPLETE: ("The DID document lacks a usable `#atproto` key or `#atproto_pds`.", "did"),
    Reason.IDENTITY_TOMBSTONED: ("The DID was deleted at its directory.", "did"),
    Reason.ACCOUNT_INACTIVE: ("The account's host said that it is not active, and content does not pass.", "account"),
    Reason.ACCOUNT_TAKENDOWN: ("The operator of this relay has taken the account down.", "operator"),
    Reason.ACCOUNT_THROTTLED: ("The host is over its account limit here; the account waits for room.", "operator"),
    Reason.REV_NOT_NEWER: ("The `rev` was not above the last one accepted for the account.", "sync"),
    Reason.REV_IN_FUTURE: ("The `rev` lies more than five minutes in the future: is the host's clock right?", "sync"),
    Reason.CAR_INVALID: ("The `blocks` are not a CAR v1 slice with one commit as its root.", "repository"),
    Reason.BLOCK_HASH_MISMATCH: ("A block does not hash to its CID.", "repository"),
    Reason.RECORD_TOO_BIG: ("A record was larger than 1,000,000 bytes.", "sync"),
    Reason.COMMIT_MISSING: ("The commit block was not in the slice.", "repository"),
    Reason.COMMIT_CID_MISMATCH: ("The `commit` is not the root of the slice.", "sync"),
    Reason.COMMIT_INVALID: ("The commit block is not a commit object of repo format 3.", "repository"),
    Reason.COMMIT_DID_MISMATCH: ("The commit block names another account than its message.", "sync"),
    Reason.COMMIT_REV_MISMATCH: ("The commit block has another `rev` than its message.", "sync"),
    Reason.SIGNATURE_FORMAT: ("The signature is not 64 bytes of r and s with a low s.", "cryptography"),
    Reason.SIGNATURE_INVALID: ("The signature does not verify with the key in the DID document.", "repository"),
    Reason.OPS_INVALID: (
        "An operation has an unknown action, an invalid path, or not the `cid` and `prev` of its action.",
        "subscribeRepos lexicon, sync",
    ),
    Reason.OP_DUPLICATE_PATH: ("Two operations of one commit have the same path.", "sync"),
    Reason.OP_PREV_MISSING: ("An update or delete does not say in `prev` which record was there before.", "sync"),
    Reason.PREV_DATA_MISSING: ("The commit is not the first of its repo and has no `prevData`.", "sync"),
    Reason.MST_INVALID: ("A tree node in the slice is not in its canonical form or place.", "repository"),
    Reason.SLICE_INCOMPLETE: ("The slice lacks a tree node without which its operations cannot be undone.", "sync"),
    Reason.RECORD_MISSING: ("The slice lacks the record of a create or update.", "repository"),
    Reason.OP_NOT_IN_TREE: ("The tree does not hold what an operation says it made of it.", "sync"),
    Reason.INVERSION_MISMATCH: (
        "The operations, undone, do not lead back to `prevData`: one is missing, added or altered.",
        "sync",
    ),
    Reason.FRAME_TOO_BIG: ("The event as passed on would be over 5,000,000 bytes.", "sync"),
}


def reason_of(error: SchemaError) -> Reason:
    """The reason under which a payload against the schema is dropped (protocol.md section 14 step 3)."""
    return _SCHEMA_REASONS.get(type(error), Reason.SCHEMA)


def explain(reason: Reason) -> str:
    """The rule in one sentence, and which specification (or who) it is of."""
    words, source = _WORDS[reason]
    return f"{words} ({source})"
