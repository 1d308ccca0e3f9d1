"""The whole configuration as one frozen value, and the parts of it that only the supervisor needs.

Owns how the settings of the packages are put together and what each role is handed. Does not parse: that is
`relay.app.config`.
"""

from dataclasses import dataclass, field
from pathlib import Path

from relay import __version__
from relay.app.draining import consumer_times
from relay.app.kinds import Address
from relay.crawl.settings import HostSettings
from relay.identity.settings import IdentitySettings
from relay.ingest.settings import IngestRoleSettings, IngestSettings
from relay.serve.settings import ConsumerSettings, HttpSettings, ServeRoleSettings
from relay.store.settings import LogSettings

_API = Address("::", 2470)
_METRICS = Address("127.0.0.1", 2471)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """Where the relay listens. `admin` None: the admin API shares `api`. `trusted_proxies` are networks."""

    api: Address = _API
    admin: Address | None = None
    metrics: Address = _METRICS
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCounts:
    """How many processes of each role; None is by cores, and a number in settings that were loaded."""

    ingest: int | None = None
    serve: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingSettings:
    """How loud and in which form; see `relay.observe.logs`."""

    level: str = "info"
    format: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class HousekeepingSettings:
    """All that the housekeeping worker needs to know."""

    log: LogSettings = field(default_factory=LogSettings)
    hosts: HostSettings = field(default_factory=HostSettings)
    user_agent: str = "atproto-relay"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """Everything an operator can choose, complete and in range. Times in seconds, sizes in bytes."""

    data_dir: Path = Path("data")
    contact: str = ""
    listen: ListenSettings = field(default_factory=ListenSettings)
    workers: WorkerCounts = field(default_factory=WorkerCounts)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    hosts: HostSettings = field(default_factory=HostSettings)
    log: LogSettings = field(default_factory=LogSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    consumers: ConsumerSettings = field(default_factory=ConsumerSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    drain_seconds: float = 20.0
    start_wait_seconds: float = 15.0
    siblings: tuple[str, ...] = ()
    admin_password: str = field(default="", repr=False)

    @property
    def user_agent(self) -> str:
        """What our requests to others carry: product, version and the operator's contact, if any."""
        return f"atproto-relay/{__version__}" + (f" (+{self.contact})" if self.contact else "")


def ingest_role(settings: RelaySettings) -> IngestRoleSettings:
    """What an ingest worker is handed."""
    return IngestRoleSettings(
        user_agent=settings.user_agent,
        log=settings.log,
        identity=settings.identity,
        hosts=settings.hosts,
        ingest=settings.ingest,
    )


def serve_role(settings: RelaySettings) -> ServeRoleSettings:
    """What a serve worker is handed."""
    times = consumer_times(settings.drain_seconds)
    return ServeRoleSettings(
        user_agent=settings.user_agent,
        contact=settings.contact,
        log=settings.log,
        hosts=settings.hosts,
        mode=settings.ingest.mode,
        consumers=settings.consumers,
        http=settings.http,
        trusted_proxies=settings.listen.trusted_proxies,
        siblings=settings.siblings,
        admin_passwords=passwords_in(settings.admin_password),
        separate_admin=settings.listen.admin is not None,
        flush_seconds=times.flush_seconds,
        farewell_seconds=times.farewell_seconds,
    )


def passwords_in(text: str) -> tuple[str, ...]:
    """The passwords of `admin_password`, which stand between commas or on lines of their own; any of them is right."""
    parts = (part.strip() for part in text.replace("\n", ",").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def housekeeping_role(settings: RelaySettings) -> HousekeepingSettings:
    """What the housekeeping worker is handed."""
    return HousekeepingSettings(log=settings.log, hosts=settings.hosts, user_agent=settings.user_agent)
