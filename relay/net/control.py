"""Ask another worker of this relay something over its Unix socket (design section 1).

The worker serves plain HTTP there with `relay.net.server`. Owns no paths: what can be asked is the worker's. A worker
that does not answer is a `NetTimeout`, one that is not there a `DialFailed`.
"""

from pathlib import Path

import trio

from relay.net.errors import DialFailed, HttpStatus
from relay.net.http import HttpClient

_BODY_BYTES_MAX = 16 * 1024 * 1024  # one worker's metrics or consumers; the answers are our own


async def ask(
    socket_path: Path,
    method: str,
    target: str,
    body: bytes | None = None,
    *,
    timeout_seconds: float,
    body_bytes_max: int = _BODY_BYTES_MAX,
) -> bytes:
    """The body of the worker's answer to `method target`.

    Raises `HttpStatus` (with the answer's status and body) unless it is a 2xx, and the `NetError` leaves of
    `HttpClient.request`.
    """
    client = HttpClient(_UnixSocket(socket_path), "atproto-relay")
    response = await client.request(
        method, f"http://worker{target}", timeout_seconds=timeout_seconds, body_bytes_max=body_bytes_max, body=body
    )
    if not 200 <= response.status < 300:
        raise HttpStatus(response.status, response.body)
    return response.body


class _UnixSocket:
    """Opens the one socket whatever host is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open_stream(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """A stream to the worker. Raises `DialFailed`."""
        assert not tls
        try:
            return await trio.open_unix_socket(str(self._path))
        except OSError as error:
            raise DialFailed(f"{self._path} ({host}:{port}): {error.strerror}") from error
