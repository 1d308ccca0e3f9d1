"""May this host be crawled? Every decision on a requestCrawl or a found host, pure; who asks and stores is the caller.

Owns hostname hygiene (checklist 238), the loop guard (checklist 262) and what counts as an answer of a PDS (checklist
239). Bans, budgets and rates are state, and are asked for where the state is.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from relay.crawl.settings import HostSettings
from relay.net.errors import HostRefused
from relay.net.guard import Origin, check_hostname
from relay.net.http import HttpResponse

RELAY_MARK = "atproto-relay"  # in a Server, Via or User-Agent header: the speaker is a relay
DESCRIBE_PATH = "/xrpc/com.atproto.server.describeServer"
DESCRIBE_SECONDS_MAX = 5.0
DESCRIBE_BYTES_MAX = 256 << 10


class Admitted(NamedTuple):
    """The host may be crawled at `origin`."""

    origin: Origin


class Refused(NamedTuple):
    """It may not; `error` is an XRPC error name, `status` the HTTP status that goes with it."""

    status: int
    error: str
    message: str


class _Described(msgspec.Struct):
    did: str


_decode = msgspec.json.Decoder(_Described).decode


def judge_request(hostname: str, settings: HostSettings, own_names: tuple[str, ...] = ()) -> Admitted | Refused:
    """The decision on the text of a requestCrawl. `own_names` are names that this relay is asked by."""
    try:
        origin = check_hostname(hostname, allow_private=settings.allow_private, allow_insecure=settings.allow_insecure)
    except HostRefused as refused:
        return Refused(400, "BadRequest", str(refused))
    if origin.name in own_names:
        return Refused(400, "BadRequest", "this is the relay that you are asking")
    return Admitted(origin)


def judge_answer(response: HttpResponse) -> Refused | None:
    """Whether the answer to describeServer is that of a PDS. None means yes.

    The reference relay takes any success. The DID is not compared with anything: it proves nothing about the host.
    """
    if is_relay(response.headers.get("server", "")):
        return Refused(400, "BadRequest", "the host is a relay itself; a relay reads PDSes only")
    if response.status != 200:
        return Refused(400, "HostNotFound", f"the host answered describeServer with status {response.status}")
    try:
        _decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refused(400, "HostNotFound", "the host did not answer describeServer as a PDS does")
    return None


def is_relay(server: str) -> bool:
    """Whether a Server header is that of a relay (the reference relay and this one send the mark)."""
    return RELAY_MARK in server.lower()


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a request came through a relay already, and must not be sent on (checklist 262)."""
    return RELAY_MARK in f"{headers.get('via', '')} {headers.get('user-agent', '')}".lower()
