"""`relay check`: is this machine fit for this configuration? One line for each problem, each saying what to do.

Owns the checks of disk, limits, clock and PLC directory. Does not own the configuration's own rules, which are those
of `relay.app.config`, nor those of the data, which are the store's. Looks only; starts nothing, and writes no more than
a file it removes at once.
"""

import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from relay.app.assignment import check_path, control_path
from relay.app.config import ConfigError
from relay.app.kinds import Address
from relay.app.listening import bind
from relay.app.lock import at_rest
from relay.app.run import seed_origin
from relay.app.settings import RelaySettings
from relay.net.dial import Dialer
from relay.net.errors import NetError
from relay.net.guard import is_public_address
from relay.net.http import HttpClient
from relay.protocol.syntax import is_hostname
from relay.store.creation import look
from relay.store.errors import StoreError

LOG_BYTES_PER_HOUR = 7 << 30  # the public network in 2026: 167 GB a day (field.md)
CLOCK_SKEW_SECONDS_MAX = 30.0
DISK_FREE_BYTES_MIN = 1 << 30
_FILES_PER_WORKER = 256  # segments, control sockets, lookups
_HOSTS = 4_096
_PLC_SECONDS = 10.0
_BODY_BYTES_MAX = 1 << 20


async def problems(settings: RelaySettings) -> list[str]:
    """Every problem found, in the order in which they are best mended; empty on a fit machine."""
    found = [*data_dir_problems(settings), *disk_problems(settings), *limit_problems(settings)]
    found.extend(seed_problems(settings))
    found.extend(sibling_problems(settings))
    found.extend(listen_problems(settings))
    if not settings.log.sync:
        found.append("log.sync: is false, so a power cut can lose events that consumers already saw; for tests only")
    return [*found, *await plc_problems(settings)]


def data_dir_problems(settings: RelaySettings) -> Iterator[str]:
    """Whether data_dir, or the folder it will be made in, can be written, and whether a start takes what is in it."""
    place = _existing(settings.data_dir)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield f"data_dir: {place} cannot be written: {error.strerror}"
    try:
        check_path(settings.data_dir)
    except ConfigError as error:
        yield from error.problems
    if settings.data_dir.is_dir():
        yield from _content_problems(settings)


def _content_problems(settings: RelaySettings) -> Iterator[str]:
    """What a start would say of the data; nothing while a relay is at work there, which has found them good."""
    try:
        with at_rest(settings.data_dir) as is_at_rest:
            if is_at_rest:
                look(settings.data_dir, settings.log)
    except ConfigError as error:
        yield from error.problems
    except StoreError as error:
        yield f"data_dir: {error.told}"


def disk_problems(settings: RelaySettings) -> Iterator[str]:
    """Whether the backfill window fits on the disk."""
    usage = shutil.disk_usage(_existing(settings.data_dir))
    if usage.free < DISK_FREE_BYTES_MIN:
        yield f"disk: {_gib(usage.free)} free at data_dir; less than {_gib(DISK_FREE_BYTES_MIN)} stops appends soon"
    bounded = settings.log.window_bytes
    if bounded > usage.total:
        yield f"log.window_bytes: {_gib(bounded)} do not fit on a disk of {_gib(usage.total)}"
    by_time = int(settings.log.window_hours * LOG_BYTES_PER_HOUR)
    if not settings.hosts.allow_private and min(by_time, bounded or by_time) > usage.total:
        yield (
            f"log.window_hours: {settings.log.window_hours:g} h of the public network are about {_gib(by_time)},"
            f" the disk has {_gib(usage.total)}; lower it, or set log.window_bytes"
        )


def limit_problems(settings: RelaySettings) -> Iterator[str]:
    """Whether this user may open enough files and map enough memory. Hard limits count: the relay lifts soft ones."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    serve, ingest = settings.workers.serve or 1, settings.workers.ingest or 1
    needed = _FILES_PER_WORKER + max(-(-settings.consumers.max // serve), -(-_HOSTS // ingest))
    if files not in (resource.RLIM_INFINITY, -1) and files < needed:
        yield f"open files: the limit is {files}, a worker may need {needed}; raise it (ulimit -n, LimitNOFILE)"
    _, space = resource.getrlimit(resource.RLIMIT_AS)
    mapped = settings.log.state_map_bytes + 4 * settings.log.segment_bytes
    if space not in (resource.RLIM_INFINITY, -1) and space < mapped:
        yield f"address space: the limit is {_gib(space)}, the maps take {_gib(mapped)}; lower log.state_map_bytes"


def seed_problems(settings: RelaySettings) -> Iterator[str]:
    """Whether `relay run` would take each seed."""
    for seed in settings.hosts.seeds:
        try:
            seed_origin(seed, settings.hosts)
        except ConfigError as error:
            yield from error.problems


def sibling_problems(settings: RelaySettings) -> Iterator[str]:
    """Whether the operator's password, which admin posts to siblings carry, would cross the internet in the clear."""
    for url in settings.siblings:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "http" and (is_hostname(host) or is_public_address(host)):
            yield f"siblings: {url} is told the admin password without TLS; use https"


def listen_problems(settings: RelaySettings) -> Iterator[str]:
    """Whether each address can be listened on. That of a relay which runs already is in use, which is no problem."""
    listen = settings.listen
    keys = {"listen.api": listen.api, "listen.admin": listen.admin, "listen.metrics": listen.metrics}
    if _supervisor_answers(settings.data_dir):
        return
    taken: dict[str, Address] = {}
    for key, address in keys.items():
        if address is None:
            continue
        other = next((name for name, known in taken.items() if _overlap(address, known)), None)
        if other is not None:
            yield f"{key}: {address} is taken by {other}"
            continue
        taken[key] = address
        try:
            for made in bind(key, address, 1):
                made.close()
        except ConfigError as error:
            yield from error.problems


def clock_problem(date: str, now: float) -> str | None:
    """What the Date header of an answer just received says about our clock; `now` in unix seconds."""
    try:
        skew = now - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
    if abs(skew) <= CLOCK_SKEW_SECONDS_MAX:
        return None
    side = "ahead of" if skew > 0 else "behind"
    return f"clock: {abs(skew):.0f} s {side} the PLC directory's; valid events would be dropped; set up NTP"


async def plc_problems(settings: RelaySettings, now: Callable[[], float] = time.time) -> list[str]:
    """Whether the PLC directory answers, and whether our clock agrees with it."""
    dialer = Dialer(allow_private=settings.hosts.allow_private, allow_insecure=settings.hosts.allow_insecure)
    client = HttpClient(dialer, settings.user_agent)
    url = settings.identity.plc_url.rstrip("/") + "/_health"
    try:
        response = await client.get(url, timeout_seconds=_PLC_SECONDS, body_bytes_max=_BODY_BYTES_MAX)
    except NetError as error:
        return [f"identity.plc_url: {settings.identity.plc_url} cannot be reached: {error}"]
    if response.status >= 500:
        return [f"identity.plc_url: {settings.identity.plc_url} answers with HTTP status {response.status}"]
    problem = clock_problem(response.headers.get("date", ""), now())
    return [problem] if problem else []


def _overlap(one: Address, other: Address) -> bool:
    """Whether two addresses cannot be listened on at the same time."""
    if one.port != other.port or not one.port:
        return False
    return one.host == other.host or bool({one.host, other.host} & {"::", "0.0.0.0"})  # noqa: S104 -- compared only


def _supervisor_answers(data_dir: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(control_path(data_dir, "supervisor")))
        except OSError:
            return False
    return True


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
