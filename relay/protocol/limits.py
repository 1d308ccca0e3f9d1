"""Every number that bounds something from outside, each with its source. Values only, no code."""

# Identifiers (protocol.md section 4)
DID_CHARS_MAX = 2048  # atproto.com/specs/did
HANDLE_CHARS_MAX = 253  # DNS name, atproto.com/specs/handle
NSID_CHARS_MAX = 317  # the total only; the authority has no limit of its own (protocol.md section 24, #20)
RECORD_KEY_CHARS_MAX = 512  # atproto.com/specs/record-key
MULTIKEY_CHARS_MAX = 128  # ours: "z" and an uncompressed point of 65 bytes take at most 90

# Messages (protocol.md section 4)
MESSAGE_BYTES_MAX = 5_000_000  # one WebSocket message, reassembled (2.4); also the most we emit
BLOCKS_BYTES_MAX = 2_000_000  # `blocks` of #commit, lexicon
SYNC_BLOCKS_BYTES_MAX = 10_000  # `blocks` of #sync, lexicon
OPS_MAX = 200  # lexicon
RECORD_BYTES_MAX = 1_000_000  # the sync spec; another page says 1 MiB (section 24, #3)
STATUS_CHARS_MAX = 128  # ours: the vocabulary is open, its longest known word has 14 characters
REV_SKEW_MS = 300_000  # how far ahead of our clock a rev may be; sync says "few minutes"
SEQ_MAX = 2**53 - 1  # of seqs and cursors that we issue, event stream spec
UPSTREAM_SEQ_MAX = 2**64 - 1  # what an upstream may number its events with; real hosts exceed 2**53 (design section 5)

# DAG-CBOR (protocol.md sections 4 and 6)
CBOR_NESTING_MAX = 32  # arrays and maps inside each other, the outermost counted
CBOR_ITEMS_MAX = 131_072  # items in one document: the guidance for a single container, applied to the whole
CBOR_INT_MIN = -(2**63)  # the atproto data model has signed 64-bit integers
CBOR_INT_MAX = 2**63 - 1

# Merkle Search Tree (protocol.md section 4: "must be limited, no number given"; both ours)
MST_ENTRIES_MAX = 1_024  # of one node; among a million random keys the longest node has 44, beyond 150 none is natural
MST_LAYER_MAX = 32  # of the root, so at most 33 nodes deep; a million keys reach 11, mining 32 takes 2**64 hashes
