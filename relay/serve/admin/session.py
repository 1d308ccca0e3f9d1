"""Sessions of the dashboard: a signed token in a cookie, nothing stored.

Owns the token's shape, life and signature. The key is made of a secret of the data folder, so that all serve workers
agree and a restart ends nobody's session, and of the passwords, so that changing them ends all. Nothing else ends a
token before its time: a logout takes it from the browser, and a copy made before that stays good.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from relay.net.exchange import Request

COOKIE = "relay_session"
SESSION_SECONDS = 3_600
RENEW_SECONDS = 600  # a session this old gets a new token with its next answer
LIFE_SECONDS_MAX = 12 * 3_600  # however busy, the password is asked for again after this
_SECRET_BYTES = 32
_TOKEN_CHARS_MAX = 200


def secret_of(path: Path) -> bytes:
    """The secret kept at `path`, made there by whichever worker comes first. Raises `OSError`."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        key_fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(key_fd, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
        try:
            os.link(unfinished, path)  # fails where another worker was faster
        except FileExistsError:
            pass
        finally:
            unfinished.unlink()
        return path.read_bytes()


class Sessions:
    """Issues and judges tokens. `now_ms` is the wall clock, since a token outlives this process."""

    def __init__(self, secret: bytes, passwords: tuple[str, ...], *, now_ms: Callable[[], int]) -> None:
        self._key = hmac.digest(secret, "\0".join(passwords).encode("utf-8", "surrogatepass"), hashlib.sha256)
        self._now_ms = now_ms

    def issue(self, began_s: int | None = None) -> str:
        """A token from now on, of a session that began now or at `began_s` (unix seconds)."""
        now = self._now_ms() // 1_000
        body = f"{now if began_s is None else began_s}.{now}.{secrets.token_hex(8)}"
        return f"{body}.{self._signature(body)}"

    def is_valid(self, token: str) -> bool:
        """Whether this is an unexpired token of ours."""
        return self._times(token) is not None

    def renewed(self, token: str) -> str | None:
        """A younger token for a session in use, None while the one it has is young enough."""
        times = self._times(token)
        if times is None or self._now_ms() // 1_000 - times[1] < RENEW_SECONDS:
            return None
        return self.issue(times[0])

    def _times(self, token: str) -> tuple[int, int] | None:
        """When session and token began, of a valid token."""
        body, _, signature = token[:_TOKEN_CHARS_MAX].rpartition(".")
        if not body or not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            return None
        began, issued = (int(part) for part in body.split(".")[:2])
        now = self._now_ms() // 1_000
        if now - issued > SESSION_SECONDS or now - began > LIFE_SECONDS_MAX:
            return None
        return began, issued

    def _signature(self, body: str) -> str:
        return hmac.digest(self._key, body.encode("utf-8", "replace"), hashlib.sha256).hex()


def cookie_value(header: str, name: str) -> str:
    """The value of a cookie in a Cookie header, "" when it is not there."""
    for pair in header.split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            return value
    return ""


def set_cookie(request: Request, token: str) -> tuple[str, str]:
    """The header that gives a browser its token; an empty one takes it away."""
    secure = "; Secure" if request.is_secure else ""
    age = SESSION_SECONDS if token else 0
    return "Set-Cookie", f"{COOKIE}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
