"""Telling the sibling relays: what was asked of this one and concerns them too is posted to each of them, once.

Owns the bounded queue and the loop guard: a request that came through a relay already is never sent on, and ours carry
a `Via` for theirs to see (checklist 262, reference table 4.7). Best effort: a sibling that does not answer in time is
not asked again, since hosts repeat their requests anyway.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import trio

from relay.crawl.admission import RELAY_MARK, is_forwarded
from relay.net.errors import NetError
from relay.net.http import HttpClient
from relay.observe.logs import get_logger

WAITING_MAX = 100
_SECONDS_MAX = 10.0
_ANSWER_BYTES_MAX = 64 << 10

_log = get_logger("serve.siblings")


class _Posted(NamedTuple):
    """A request on its way."""

    target: str
    headers: dict[str, str]
    body: bytes


class Siblings:
    """Posts to each of `urls` (http or https, without a path)."""

    def __init__(self, client: HttpClient, urls: Sequence[str]) -> None:
        self._client = client
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._send, self._receive = trio.open_memory_channel[_Posted](WAITING_MAX)

    def tell(self, target: str, body: bytes, came_with: Mapping[str, str], *, with_password: bool = False) -> bool:
        """Queue a JSON post of `body` to `target` (path and query) at every sibling; False when it is not sent.

        `came_with` are the headers of the request that led to it; with `with_password` its Authorization goes along,
        which is for the operator's own requests only.
        """
        if not self._urls or is_forwarded(came_with):
            return False
        headers = {"Content-Type": "application/json", "Via": f"1.1 {RELAY_MARK}"}
        if with_password and "authorization" in came_with:
            headers["Authorization"] = came_with["authorization"]
        try:
            self._send.send_nowait(_Posted(target, headers, body))
        except trio.WouldBlock:
            return False
        return True

    async def run(self) -> None:
        """Send what is queued until cancelled, one request after the other, to all siblings at once."""
        async for posted in self._receive:
            async with trio.open_nursery() as nursery:
                for url in self._urls:
                    nursery.start_soon(self._post, url, posted)

    async def _post(self, url: str, posted: _Posted) -> None:
        try:
            response = await self._client.request(
                "POST",
                url + posted.target,
                timeout_seconds=_SECONDS_MAX,
                body_bytes_max=_ANSWER_BYTES_MAX,
                headers=posted.headers,
                body=posted.body,
            )
        except NetError as error:
            _log.warning("sibling_not_told", sibling=url, why=str(error))
            return
        if response.status >= 400:
            _log.info("sibling_refused", sibling=url, status=response.status)
