"""The values of metric labels that are closed lists, so that each of their series can be shown before its first event.

Owns copies only, because the modules that decide these values lie on floors above this one, or beside it; a test holds
the lists against them where they are types. A value that is missing here is counted all the same.
"""

from relay.protocol.frame import MESSAGE_TYPES

FRAMES = (*MESSAGE_TYPES, "error", "unknown", "unreadable")
APPENDED = (
    ("#commit", "host"),
    ("#sync", "host"),
    ("#identity", "host"),
    ("#account", "host"),
    ("#account", "relay"),
)
SUBSCRIBED = (
    "connected",
    "closed",
    "unreachable",
    "refused",
    "silent",
    "framing",
    "future_cursor",
    "seq_behind",
    "consumer_too_slow",
    "error_frame",
    "relay",
    "our_stop",
    "throttled",
)
LOOKED_UP = ("found", "gone", "did_fault", "directory_fault")
CONSUMERS_GONE = (
    "closed",
    "lost",
    "silent",
    "refused",
    "future_cursor",
    "too_slow",
    "stalled",
    "flooding",
    "kicked",
    "shutdown",
)
HTTP_FAULTS = (
    "refused",
    "evicted",
    "head_timeout",
    "head_too_large",
    "bad_request",
    "unfinished",
    "body_timeout",
    "body_too_large",
    "answer_failed",
    "send_timeout",
    "lost",
    "forwarded_untrusted",
)
WORKERS_ENDED = ("drained", "killed", "exited", "silent", "not_started")
