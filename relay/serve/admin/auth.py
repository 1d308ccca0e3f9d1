"""Who may use the operator's API: Basic auth as `admin`, or a session of the dashboard (checklist 264).

Owns the judgement of a request and what a wrong one costs: failures are slow, counted by address, and refused unread
once there were too many. Passwords are compared by digest, all of them each time, in constant time; none is ever part
of a message or a log line. Does not own sessions' tokens (`relay.serve.admin.session`).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import urlsplit

import trio

from relay.net.exchange import Request
from relay.net.proxies import address_group
from relay.observe.logs import get_logger
from relay.serve.admin.session import COOKIE, Sessions, cookie_value
from relay.serve.ratelimit import shared_buckets
from relay.serve.xrpc import Refusal, too_many

USER = "admin"
PAGE_HEADER = "x-relay-dash"  # sent by the dashboard's script; a form or an image of another site cannot
FAILURES_BURST = 10  # of one address; then one more every `FAILURE_REFILL_SECONDS`
FAILURE_REFILL_SECONDS = 6.0
_DELAYED_MAX = 64  # failures that wait at a time; more are refused at once
_ADDRESSES_MAX = 4_096
_CREDENTIALS_CHARS_MAX = 1_024
_CHALLENGE = (("WWW-Authenticate", 'Basic realm="relay admin", charset="UTF-8"'),)
_FAILED_OFTEN = "too many failed logins from your address; wait a little"
_READING = frozenset({"GET", "HEAD"})

OFF = (
    "the operator's API is off because no password is configured; set RELAY_ADMIN_PASSWORD or RELAY_ADMIN_PASSWORD_FILE"
)

_log = get_logger("serve.admin")


class Gate:
    """Lets requests of operators through. `passwords` may be several, so that they can be changed without a gap.

    A failure is answered after `failure_seconds`. Failures of an address are bounded over all `workers` together, of
    which this is one.
    """

    def __init__(
        self,
        passwords: tuple[str, ...],
        sessions: Sessions,
        *,
        failure_seconds: float,
        workers: int = 1,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._digests = tuple(_digest(password) for password in passwords)
        self._sessions = sessions
        self._clock = clock
        self._failure_seconds = failure_seconds
        self._failures = shared_buckets(1 / FAILURE_REFILL_SECONDS, FAILURES_BURST, workers, _ADDRESSES_MAX)
        self._delayed = 0
        self.failed = 0

    @property
    def is_open(self) -> bool:
        """Whether there is any password at all."""
        return bool(self._digests)

    async def admit(self, request: Request) -> str:
        """How the operator showed who they are: "basic" or "dashboard". Raises `Refusal` (401, 403, 429)."""
        self.check_open()
        self.check_origin(request)
        if self._sessions.is_valid(cookie_value(request.headers.get("cookie", ""), COOKIE)):
            if request.method not in _READING and PAGE_HEADER not in request.headers:
                raise Refusal(403, "Forbidden", "a change needs the header that the dashboard's own page sends")
            return "dashboard"
        credentials = request.headers.get("authorization", "")
        if not credentials:
            raise _unauthorized(request, "log in as admin")
        await self.check_password(request, _password(credentials))
        return "basic"

    async def check_password(self, request: Request, password: str | None) -> None:
        """Raise `Refusal`, late, unless this is one of the passwords; None stands for credentials that are none."""
        self.check_open()
        bucket = self._failures.get(address_group(request.client), self._clock())
        wait_seconds = bucket.delay_seconds(self._clock())
        if wait_seconds > 0:
            raise too_many(_FAILED_OFTEN, wait_seconds)
        if password is not None and self._is_right(password):
            return
        bucket.take(self._clock())
        self.failed += 1
        _log.warning("admin_login_failed", address=request.client, failed=self.failed)
        if self._delayed >= _DELAYED_MAX:
            raise too_many(_FAILED_OFTEN, FAILURE_REFILL_SECONDS)
        self._delayed += 1
        try:
            await trio.sleep(self._failure_seconds)
        finally:
            self._delayed -= 1
        raise _unauthorized(request, "wrong user or password")

    def check_open(self) -> None:
        """Raise `Refusal` (403) when no password is configured."""
        if not self.is_open:
            raise Refusal(403, "AdminDisabled", OFF)

    def _is_right(self, password: str) -> bool:
        given = _digest(password)
        right = 0
        for digest in self._digests:  # each of them, whichever is right
            right |= hmac.compare_digest(given, digest)
        return bool(right)

    def check_origin(self, request: Request) -> None:
        """A browser that was told the password sends it along with other sites' forms too; those are refused."""
        if request.method in _READING:
            return
        origin = request.headers.get("origin")
        foreign = origin is not None and not _is_ours(origin, request.headers.get("host", ""))
        if foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refusal(403, "Forbidden", "a request from a page of another site")


def _is_ours(origin: str, host: str) -> bool:
    """Whether a page of `origin` came from this server; "null" and what is no URL did not."""
    try:
        place = urlsplit(origin).netloc.lower()
    except ValueError:
        return False
    return place != "" and place == host.lower()


def _password(credentials: str) -> str | None:
    """The password of an Authorization header that is Basic and for `admin`."""
    scheme, _, encoded = credentials[:_CREDENTIALS_CHARS_MAX].partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        return None
    if scheme.lower() != "basic" or not colon or not hmac.compare_digest(user.encode(), USER.encode()):
        return None
    return password


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest()


def _unauthorized(request: Request, message: str) -> Refusal:
    """401; without a challenge for our own page, where the browser would put a box of its own over the login form."""
    return Refusal(401, "AuthRequired", message, () if PAGE_HEADER in request.headers else _CHALLENGE)
