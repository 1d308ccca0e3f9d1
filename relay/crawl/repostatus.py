"""Asking a host what holds for one of its accounts: `getRepoStatus`, seldom (protocol.md section 14 step 7).

Owns the request, its bounds and how often it may be made. When to ask is decided by `relay.verify`; what follows from
the answer too. A host that does not answer properly has said nothing: the status that is stored stays (checklist 178).
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
import trio

from relay.net.errors import NetError
from relay.net.http import HttpClient
from relay.net.limiter import Keyed, TokenBucket
from relay.protocol.limits import STATUS_CHARS_MAX

ANSWER_BYTES_MAX = 16 * 1024
ANSWER_SECONDS_MAX = 5.0
CHECK_SECONDS_PER_DID = 60.0
CHECKS_PER_MINUTE_PER_HOST = 20
BUCKETS_MAX = 50_000

_PATH = "/xrpc/com.atproto.sync.getRepoStatus"


class RepoStatus(NamedTuple):
    """What a host says of an account; `status` is "" when it gives none."""

    active: bool
    status: str


class _Answer(msgspec.Struct):
    did: str
    active: bool
    status: str | None = None


Ask = Callable[[str, str], Awaitable[RepoStatus | None]]
"""`await ask(hostname, did)`: the host's word, None when it gave none."""


class StatusSource(NamedTuple):
    """Where the word comes from. `is_insecure` tells whether a host speaks plain HTTP."""

    client: HttpClient
    is_insecure: Callable[[str], bool]

    async def ask(self, hostname: str, did: str) -> RepoStatus | None:
        """The host's present word on `did`, None when it is not reached or does not answer in the lexicon's words."""
        url = f"{'http' if self.is_insecure(hostname) else 'https'}://{hostname}{_PATH}?{urlencode({'did': did})}"
        try:
            response = await self.client.get(url, timeout_seconds=ANSWER_SECONDS_MAX, body_bytes_max=ANSWER_BYTES_MAX)
        except NetError:
            return None
        if response.status != 200:
            return None
        try:
            answer = msgspec.json.decode(response.body, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        status = answer.status or ""
        return RepoStatus(answer.active, status) if answer.did == did and len(status) <= STATUS_CHARS_MAX else None


class StatusChecks:
    """Asks through `ask`, at most once in a minute for each DID and twenty times a minute each host (checklist 172)."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._per_did = Keyed(lambda now: TokenBucket(1 / CHECK_SECONDS_PER_DID, 1, now), BUCKETS_MAX)
        self._per_host = Keyed(
            lambda now: TokenBucket(CHECKS_PER_MINUTE_PER_HOST / 60.0, CHECKS_PER_MINUTE_PER_HOST, now), BUCKETS_MAX
        )

    def may_ask(self, did: str, hostname: str) -> bool:
        """Whether `ask` would ask now; takes nothing."""
        now = trio.current_time()
        free = self._per_did.get(did, now).delay_seconds(now) == 0
        return free and self._per_host.get(hostname, now).delay_seconds(now) == 0

    async def ask(self, did: str, hostname: str) -> RepoStatus | None:
        """Take a turn from both budgets and ask; None without an answer, or without a turn."""
        now = trio.current_time()
        if not self.may_ask(did, hostname):
            return None
        self._per_did.get(did, now).take(now)
        self._per_host.get(hostname, now).take(now)
        return await self._ask(hostname, did)
