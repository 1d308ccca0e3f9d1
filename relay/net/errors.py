"""What the network can do to us, as one family of exceptions.

Everything `relay.net` raises about a peer, a name or a path to it is a `NetError`; one rule holds for all of them: back
off, let the host's status change, never end a worker (design section 7). Each leaf has a `slug` that is fit for a
metric label and never changes. Exceptions of sockets, TLS and of the HTTP and WebSocket libraries are translated into
these where they are raised.
"""

# ruff: noqa: N818 - the leaves are named after what happened, as in trio; the base says that they are errors

from typing import ClassVar


class NetError(Exception):
    """Never raised itself. The message is for people, `slug` for counters."""

    slug: ClassVar[str] = "net"


class HostRefused(NetError):
    """Policy: a name or URL that must not be contacted, judged by its text alone (checklist 238, 263)."""

    slug = "host_refused"


class DialRefused(NetError):
    """Policy: a name whose addresses, or port, must not be contacted. Nothing was sent (protocol.md section 11.4)."""

    slug = "dial_refused"


class LookupFailed(NetError):
    """The name does not resolve."""

    slug = "lookup_failed"


class DialFailed(NetError):
    """No address of the host took the connection."""

    slug = "dial_failed"


class TlsFailed(NetError):
    """The TLS handshake failed: a certificate that does not verify, a wrong name, or no TLS at all."""

    slug = "tls_failed"


class NetTimeout(NetError):
    """A step did not end in its time."""

    slug = "timeout"


class ConnectionLost(NetError):
    """The peer went away in the middle."""

    slug = "connection_lost"


class HttpError(NetError):
    """Not HTTP/1.1 as we accept it: a malformed, unfinished or oversized response head, or broken framing."""

    slug = "http_error"


class HttpStatus(NetError):
    """A well-formed response whose status is not the one that was needed. `status` and `body` are the peer's."""

    slug = "http_status"

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        self.body = body


class BodyTooLarge(NetError):
    """A body beyond the bound that its reader set. What was read of it is discarded."""

    slug = "body_too_large"


class ContentEncoded(NetError):
    """A compressed body. None was asked for, and inflating a stranger's bytes is not worth its bounds."""

    slug = "content_encoded"


class UpgradeRefused(NetError):
    """A host answered the request for a WebSocket with a plain HTTP response, a redirect included (protocol.md 2.2).

    `retry_after_seconds` is None unless the header holds whole seconds; `server` is the Server header ("" if there is
    none); `body` is an excerpt of at most 1,024 bytes as they came: any type, chunk marks not removed.
    """

    slug = "upgrade_refused"

    def __init__(
        self, status: int, retry_after_seconds: int | None = None, server: str = "", body: bytes = b""
    ) -> None:
        super().__init__(f"HTTP status {status} instead of a WebSocket")
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.server = server
        self.body = body


class ConnectionClosed(NetError):
    """A WebSocket has ended: by a Close of either side (`code`, `reason`), or without one (code 1006).

    Code 1002 is also ours for a peer that broke the WebSocket protocol, 1007 for text that is not UTF-8.
    """

    slug = "connection_closed"

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"WebSocket closed: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class TextMessage(NetError):
    """A host sent a text message, which counts as bad framing (protocol.md 2.3)."""

    slug = "text_message"


class MessageTooBig(NetError):
    """A message above the bound on its reassembled size. It was judged by its frame headers, not buffered."""

    slug = "message_too_big"


class PeerSilent(NetError):
    """Nothing was read for 90 s while we were reading, our pings notwithstanding (design section 5)."""

    slug = "peer_silent"
