"""Every key an operator can set: name, kind, meaning. Parsing, `relay check` and config/README.md follow this table.

Owns names and ranges; interface.md fixes the names. Defaults are those of the settings dataclasses, looked up by the
same name, so that each stands in one place. `hosts.tiers.<name>.*` is a small table of its own.
"""

from typing import Any, NamedTuple

from relay.app import kinds
from relay.app.kinds import Boolean, Choice, Integer, Kind, Listen, ListOf, Number, Size, Text
from relay.app.settings import RelaySettings
from relay.crawl.settings import TierSettings
from relay.observe import logs
from relay.protocol.limits import SEQ_MAX
from relay.verify.modes import MODES

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
INITIAL_SEQ_MAX = SEQ_MAX // 2  # half of all seqs stay: 10,000 a second for 14,000 years


class Key(NamedTuple):
    """One key. `target` is its place in `RelaySettings` where that differs from `name`."""

    name: str
    kind: Kind
    doc: str
    target: str = ""

    @property
    def place(self) -> str:
        """Its place in `RelaySettings`: `field` or `section.field`."""
        return self.target or self.name

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "RELAY_" + self.name.replace(".", "_").upper()

    @property
    def default(self) -> Any:
        """Its default, as the settings dataclass has it."""
        value: Any = RelaySettings()
        for part in self.place.split("."):
            value = getattr(value, part)
        return value


class Secret(NamedTuple):
    """A secret: only from the environment, or from a file the environment names."""

    name: str
    doc: str

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "RELAY_" + self.name.upper()

    @property
    def file_variable(self) -> str:
        """The environment variable that names a file holding it."""
        return self.variable + "_FILE"


_HOSTS = ListOf("a list of hostnames or http(s) URLs", kinds.is_host_or_url)
_RELAYS = ListOf("a list of http(s) URLs", kinds.is_http_url)
_GLOBS = ListOf('a list of hostnames, in which "*" stands for anything', kinds.is_host_glob)
_NETWORKS = ListOf("a list of IP addresses or networks", kinds.is_network)
_RATE = Integer(1, 1_000_000_000)
_ACCOUNTS = Integer(0, 1_000_000_000)
_START = ("window", "live")

KEYS: tuple[Key, ...] = (
    Key("data_dir", Text("a path", empty=False), "where the log and the state are kept"),
    Key(
        "contact",
        Text("text without parentheses", lambda text: not set(text) & set("()")),
        "shown to visitors and owners of hosts, and put into the User-Agent",
    ),
    Key("listen.api", Listen(), "XRPC, WebSocket, dashboard, and admin unless it has its own; [::] is IPv4 too"),
    Key("listen.admin", Listen(empty=True), "a separate address for `/admin` and `/dash`"),
    Key("listen.metrics", Listen(), "`/metrics`"),
    Key("listen.trusted_proxies", _NETWORKS, "addresses whose `X-Forwarded-For` and `X-Forwarded-Proto` count"),
    Key("workers.ingest", Integer(1, 64, auto=True), "processes that read hosts; auto is half the cores, at most 8"),
    Key(
        "workers.serve", Integer(1, 64, auto=True), "processes that serve consumers; auto is half the cores, at most 8"
    ),
    Key("identity.plc_url", Text("an http(s) URL", kinds.is_http_url, empty=False), "the PLC directory"),
    Key("identity.cache_hours", Number(0.01, 8_760), "age at which a signing key is looked up again"),
    Key("identity.negative_seconds", Number(1, 86_400), "how long a DID that did not resolve is not asked for again"),
    Key("identity.hold_seconds", Number(1, 3_600), "how long events wait for a DID that does not resolve"),
    Key("identity.refresh_per_minute", Integer(1, 100_000), "refreshes that one host can cause; one DID: one a minute"),
    Key("hosts.seeds", _HOSTS, "hosts to read from the first start on"),
    Key("hosts.discover_from", _RELAYS, "relays whose `listHosts` is read; by default none when `hosts.allow_private`"),
    Key("hosts.discover_minutes", Number(1, 100_000), "how often it is read"),
    Key("hosts.discover_start", Choice(("auto", *_START)), "auto: live where the source has a seq, else window"),
    Key("hosts.allow_insecure", Boolean(), "http and ws hosts"),
    Key("hosts.allow_private", Boolean(), "loopback and private addresses with any port, did:web on localhost"),
    Key("hosts.start", Choice(_START), "where a host never seen before is read from"),
    Key("hosts.request_crawl", Boolean(), "whether the public may ask for a crawl"),
    Key("hosts.new_per_day", _ACCOUNTS, "new hosts a day by public requestCrawl"),
    Key("hosts.new_accounts_per_second", Number(0.01, 1_000_000), "new accounts of a host that nobody vouches for"),
    Key("hosts.trusted", _GLOBS, "hosts of the trusted tier"),
    Key("hosts.account_limit", _ACCOUNTS, "accounts of a host that is not trusted"),
    Key("validation.mode", Choice(MODES), "how chains are judged", target="ingest.mode"),
    Key("log.window_hours", Number(0.01, 87_600), "backfill window by time"),
    Key("log.window_bytes", Size(64 * MIB, 1_024 * TIB, zero=True), "backfill window by size; 0 is no bound"),
    Key("log.segment_bytes", Size(16 * MIB, 64 * GIB), "size at which a segment is sealed"),
    Key("log.batch_ms", Integer(1, 1_000), "how long an append waits for more"),
    Key("log.batch_items", Integer(1, 10_000), "items of one append"),
    Key("log.batch_bytes", Size(64 << 10, 64 * MIB), "bytes of one append"),
    Key("log.sync", Boolean(), "false loses events in a power cut; for tests only"),
    Key(
        "log.initial_seq", Integer(1, INITIAL_SEQ_MAX, auto=True), "auto: 10 x unix ms at creation; a number is a floor"
    ),
    Key("log.state_map_bytes", Size(256 * MIB, 16 * TIB), "address space reserved for the state"),
    Key("ingest.lane_items", Integer(1, 100_000), "events of one DID that may wait"),
    Key("ingest.lane_bytes", Size(8 * MIB, GIB), "bytes of one DID that may wait"),
    Key("ingest.in_flight", Integer(1, 100_000), "events of one host that may wait"),
    Key("consumers.max", Integer(1, 1_000_000), "consumers of the whole relay"),
    Key("consumers.per_address", Integer(1, 1_000_000), "consumers of one address"),
    Key("consumers.stall_seconds", Number(1, 86_400), "time without progress that ends a consumer"),
    Key("consumers.read_bytes", Size(64 << 10, 64 * MIB), "bytes one read of the log takes"),
    Key(
        "http.requests_per_address",
        _RATE,
        "requests of one address to one serve worker in five minutes; the stream and health checks are not counted",
    ),
    Key("drain_seconds", Number(0, 600), "time for a clean stop"),
    Key("start_wait_seconds", Number(0, 600), "wait for the workers of a supervisor that died"),
    Key(
        "siblings",
        _RELAYS,
        "relays to which requestCrawl and admin posts are forwarded; the latter carry our admin password (of several "
        "the first), so all need the same one, and https",
    ),
    Key("logging.level", Choice(logs.LEVELS), "what is logged"),
    Key("logging.format", Choice(logs.FORMATS), "auto: pretty on a terminal, JSON lines elsewhere"),
)

SECRETS: tuple[Secret, ...] = (Secret("admin_password", "of the user `admin`; without one the admin API is off"),)


class TierKey(NamedTuple):
    """One key of a tier, `hosts.tiers.<name>.<field>`."""

    field: str
    kind: Kind
    doc: str

    @property
    def default(self) -> Any:
        """Its default for a tier that is neither `default` nor `trusted`."""
        return getattr(TierSettings(), self.field)


TIER_KEYS: tuple[TierKey, ...] = (
    TierKey("hosts", _GLOBS, "hosts of this tier"),
    TierKey("per_second", _RATE, "events of one host a second, and one more for every 1,000 accounts it may have"),
    TierKey("per_hour", _RATE, "events of one host an hour, and one more for each account it may have"),
    TierKey("per_day", _RATE, "events of one host a day, and ten more for each account it may have"),
    TierKey("account_limit", _ACCOUNTS, "accounts of one host"),
)
