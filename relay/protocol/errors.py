"""What a peer can do wrong, as one small family of exceptions.

Everything `relay.protocol` raises about bytes from outside is a `ProtocolError`. Two leaves say what follows:
`FramingError` closes the connection it came from (protocol.md 2.3), every other leaf concerns one event only and
becomes a counted drop one floor up, in `relay.verify`. A bug of ours is an `AssertionError`, never one of these.
Leaves of leaves exist where `relay.verify` counts a fault under a reason of its own, and are named after that reason.
"""

# ruff: noqa: N818 - those leaves of leaves carry the name of their reason, without `Error`


class ProtocolError(Exception):
    """Bytes from a peer break the protocol. Never raised itself; the message is for people, the class for code."""


class FramingError(ProtocolError):
    """Not two DAG-CBOR maps back to back, not binary, or too large: the stream cannot be trusted any further."""


class SchemaError(ProtocolError):
    """A well-formed frame whose payload misses a field, has a wrong type or is beyond a limit of the lexicon."""


class BadSeq(SchemaError):
    """`seq` is missing, not an integer, or not of unsigned 64 bit (design section 5)."""


class BadDid(SchemaError):
    """`repo` or `did` is text but not DID syntax (checklist 140)."""


class UnsupportedDid(SchemaError):
    """A DID of a method or form that this network does not use (checklist 141)."""


class BadRev(SchemaError):
    """`rev` is text but not a TID (protocol.md section 13)."""


class TooManyOps(SchemaError):
    """More than `OPS_MAX` ops (checklist 63)."""


class BlocksEmpty(SchemaError):
    """`blocks` has no bytes (checklist 65)."""


class BlocksTooBig(SchemaError):
    """`blocks` is beyond the limit of its message type (checklist 64, 67)."""


class CborError(ProtocolError):
    """Not one item of strict DAG-CBOR (protocol.md section 6)."""


class CarError(ProtocolError):
    """Not a CAR v1 slice, or a block that does not hash to its CID (protocol.md section 5)."""


class BlockHashMismatch(CarError):
    """A block that does not hash to the CID it is filed under (checklist 101)."""


class CommitError(ProtocolError):
    """Not a commit object of repo format 3 (protocol.md section 9)."""


class MstError(ProtocolError):
    """A node that breaks a canonical rule of the Merkle Search Tree, or ops that it contradicts (protocol.md 8, 14)."""


class NodeInvalid(MstError):
    """A node that breaks a canonical rule, by itself or at its place in the tree (checklist 106-120)."""


class NodeMissing(MstError):
    """The slice lacks a node whose contents the inversion needs (checklist 208)."""


class RecordMissing(MstError):
    """The slice lacks the block of a created or updated record (protocol.md section 14 step 14)."""


class OpNotInTree(MstError):
    """An op and the tree disagree: key absent, another CID at it, or a deleted key still present (checklist 207)."""


class IdentifierError(ProtocolError):
    """Not a DID whose text names the host of its document (checklist 146)."""


class DidDocumentError(ProtocolError):
    """A DID document that is not one, or not of the DID that was asked for (protocol.md section 11.1)."""


class KeyFormatError(ProtocolError):
    """Not a multikey or legacy key of a supported curve (protocol.md section 10)."""
