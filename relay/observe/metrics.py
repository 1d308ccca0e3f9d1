"""Every metric the relay records, with its help text, labels and buckets; one registry for each worker.

Owns the names: interface.md fixes them, dashboards depend on them, and tests/house compares the two. Does not own when
they move: the role does that, with the group it was handed. The only module that imports prometheus_client.

A worker makes one `Metrics` and touches only the groups it records, so it exposes nothing that another role counts. A
counter whose labels have a closed list of values shows them all from the start: `rate()` and `increase()` do not see
the first step of a series that appears with it. No label ever holds a DID, an address or a user agent.
"""

import platform
from collections.abc import Iterable
from functools import cached_property

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from relay.observe import labels
from relay.verify.verdict import Reason

# A creation time beside every counter and histogram would double the scrape for a figure nobody asks for.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves this one untyped

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOMENTS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)  # a step in one process
LATENCIES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # network and disk
LAGS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0, 259_200.0)  # how far behind, up to 72 h
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)


def _show(counter: Counter, values: Iterable[str]) -> None:
    """Expose the series of each value of a counter's one label, at 0."""
    for value in values:
        counter.labels(value)


class IngestMetrics:
    """The way of an event from an upstream frame to an append, in one ingest worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.frames_received = Counter(
            "relay_ingest_frames_received_total",
            "Messages read from upstream hosts, by event type.",
            ["event"],
            registry=registry,
        )
        _show(self.frames_received, labels.FRAMES)
        self.events_dropped = Counter(
            "relay_ingest_events_dropped_total",
            "Events that were received and not passed on, by reason.",
            ["reason"],
            registry=registry,
        )
        _show(self.events_dropped, Reason)
        self.verify_seconds = Histogram(
            "relay_ingest_verify_seconds",
            "Time to decode and verify one event, without waiting.",
            buckets=MOMENTS,
            registry=registry,
        )
        self.lag_seconds = Histogram(
            "relay_ingest_lag_seconds",
            "Age of an event, by its own time field, when it is appended.",
            buckets=LAGS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "relay_ingest_in_flight",
            "Events that were received and are neither appended nor dropped yet.",
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "relay_ingest_batch_seconds",
            "Time from the first item of a batch to the end of its append.",
            buckets=LATENCIES,
            registry=registry,
        )
        self.batch_items = Histogram(
            "relay_ingest_batch_items",
            "Items in one batch.",
            buckets=COUNTS,
            registry=registry,
        )
        self.events_unproven = Counter(
            "relay_ingest_events_unproven_total",
            "Commits passed without a full proof, on hosts listed as legacy.",
            registry=registry,
        )
        self.chain_breaks = Counter(
            "relay_ingest_chain_breaks_total",
            "Commits whose prevData is not the tree stored for the account; passed and adopted.",
            registry=registry,
        )
        self.lanes_waiting = Gauge(
            "relay_ingest_lanes_waiting",
            "Accounts whose events wait for a DID document or for an append.",
            registry=registry,
        )


class AppendMetrics:
    """Appends to the log, as one writing worker sees them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events_appended = Counter(
            "relay_log_events_appended_total",
            "Events appended to the log, by event type and by who said it: a host, or this relay itself.",
            ["event", "origin"],
            registry=registry,
        )
        for event, origin in labels.APPENDED:
            self.events_appended.labels(event, origin)
        self.lock_wait_seconds = Histogram(
            "relay_log_lock_wait_seconds",
            "Wait of one append for the write lock of the state env.",
            buckets=LATENCIES,
            registry=registry,
        )
        self.lock_held_seconds = Histogram(
            "relay_log_lock_held_seconds",
            "Time one append held the write lock of the state env.",
            buckets=LATENCIES,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "relay_log_commit_seconds",
            "Time of the synced commits of one append.",
            buckets=LATENCIES,
            registry=registry,
        )


class LogMetrics:
    """The log and the state env as files and figures; recorded by housekeeping for the whole relay."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tip_seq = Gauge("relay_log_tip_seq", "Newest seq of the log.", registry=registry)
        self.floor_seq = Gauge("relay_log_floor_seq", "First seq of the backfill window.", registry=registry)
        self.tip_time_seconds = Gauge(
            "relay_log_tip_time_seconds",
            "Unix time of the newest batch in the log.",
            registry=registry,
        )
        self.bytes = Gauge("relay_log_bytes", "Bytes of all segments on disk, each minute.", registry=registry)
        self.segments = Gauge("relay_log_segments", "Segments of the log, each minute.", registry=registry)
        self.state_bytes = Gauge("relay_state_bytes", "Bytes of the state env in use, each minute.", registry=registry)
        self.state_map_bytes = Gauge(
            "relay_state_map_bytes",
            "Bytes the state env may grow to (its map size).",
            registry=registry,
        )
        self.state_free_pages = Gauge("relay_state_free_pages", "Free pages inside the state env.", registry=registry)
        self.state_oldest_reader_seconds = Gauge(
            "relay_state_oldest_reader_seconds",
            "Age of the oldest read transaction of the state env, each minute.",
            registry=registry,
        )
        self.disk_free_bytes = Gauge(
            "relay_disk_free_bytes",
            "Free bytes of the file system that holds data_dir.",
            registry=registry,
        )


class CrawlMetrics:
    """Subscriptions to upstream hosts of one ingest worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.hosts = Gauge("relay_crawl_hosts", "Hosts of this worker, by status.", ["status"], registry=registry)
        self.hosts_near_rate = Gauge(
            "relay_crawl_hosts_near_rate_limit",
            "Hosts of this worker that used 80 % of their events an hour or a day.",
            registry=registry,
        )
        self.reconnects = Counter(
            "relay_crawl_reconnects_total",
            "Attempts to subscribe to a host, by outcome.",
            ["outcome"],
            registry=registry,
        )
        _show(self.reconnects, labels.SUBSCRIBED)


class HostWatchMetrics:
    """Upstream hosts against their account limits; recorded by housekeeping for the whole relay."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.near_quota = Gauge(
            "relay_crawl_hosts_near_account_limit",
            "Hosts with 80 % or more of the accounts they may have.",
            registry=registry,
        )
        self.over_quota = Gauge(
            "relay_crawl_hosts_over_account_limit",
            "Hosts with accounts that wait for room.",
            registry=registry,
        )
        self.account_usage = Gauge(
            "relay_crawl_host_account_limit_ratio",
            "Accounts of a host over its limit; only the fullest hosts at 80 % and more.",
            ["host"],
            registry=registry,
        )


class IdentityMetrics:
    """DID documents fetched over the network by one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lookups = Counter(
            "relay_identity_lookups_total",
            "Lookups of DID documents over the network, by outcome.",
            ["outcome"],
            registry=registry,
        )
        _show(self.lookups, labels.LOOKED_UP)
        self.lookups_seconds = Histogram(
            "relay_identity_lookups_seconds",
            "Time of one lookup over the network.",
            buckets=LATENCIES,
            registry=registry,
        )


class ServeMetrics:
    """Consumers of one serve worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.consumers = Gauge("relay_serve_consumers", "Connected consumers.", registry=registry)
        self.consumer_lag_seconds = Histogram(
            "relay_serve_consumer_lag_seconds",
            "How far behind the tip a consumer is, sampled for each consumer at a fixed interval.",
            buckets=LAGS,
            registry=registry,
        )
        self.frames_sent = Counter("relay_serve_frames_sent_total", "Frames sent to consumers.", registry=registry)
        self.bytes_sent = Counter("relay_serve_bytes_sent_total", "Bytes sent to consumers.", registry=registry)
        self.disconnects = Counter(
            "relay_serve_disconnects_total",
            "Consumers that went away, by reason.",
            ["reason"],
            registry=registry,
        )
        _show(self.disconnects, labels.CONSUMERS_GONE)
        self.append_to_send_seconds = Histogram(
            "relay_serve_append_to_send_seconds",
            "Time from the batch time of an append to its first send to a consumer at the tip.",
            buckets=LATENCIES,
            registry=registry,
        )


class HttpMetrics:
    """Requests on our HTTP listeners. `path` is the route, never the path as asked for: that would have no bound."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "relay_http_requests_total",
            "HTTP requests answered, by route and status.",
            ["path", "status"],
            registry=registry,
        )
        self.requests_seconds = Histogram(
            "relay_http_requests_seconds",
            "Time to answer one HTTP request.",
            buckets=LATENCIES,
            registry=registry,
        )
        self.faults = Counter(
            "relay_http_faults_total",
            "Faults of HTTP connections and requests, most of them the peer's, by reason.",
            ["reason"],
            registry=registry,
        )
        _show(self.faults, labels.HTTP_FAULTS)


class SupervisionMetrics:
    """What only the supervisor knows. Its series name the worker they are about, not the process that says so."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.worker_up = Gauge(
            "relay_worker_up",
            "1 while the worker answers its control socket.",
            ["role", "worker"],
            registry=registry,
        )
        self.worker_restarts = Counter(
            "relay_worker_restarts_total",
            "Restarts of a worker, by what ended it.",
            ["role", "worker", "outcome"],
            registry=registry,
        )

    def set_up(self, role: str, worker: str, *, up: bool) -> None:
        """Whether a worker answers; its restarts are exposed with it, before there is one."""
        self.worker_up.labels(role, worker).set(int(up))
        for outcome in labels.WORKERS_ENDED:
            self.worker_restarts.labels(role, worker, outcome)


class Metrics:
    """The registry of one worker and the groups declared on it; a group is declared when it is first touched."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        prometheus_client.ProcessCollector(registry=self._registry)
        prometheus_client.GCCollector(registry=self._registry)

    def build_info(self, version: str) -> None:
        """Expose `relay_build_info` with our version and the interpreter's."""
        info = Gauge(
            "relay_build_info",
            "1, with the version of the relay and of Python.",
            ["version", "python"],
            registry=self._registry,
        )
        info.labels(version, platform.python_version()).set(1)

    @cached_property
    def ingest(self) -> IngestMetrics:
        """For the ingest role."""
        return IngestMetrics(self._registry)

    @cached_property
    def append(self) -> AppendMetrics:
        """For whoever appends to the log."""
        return AppendMetrics(self._registry)

    @cached_property
    def log(self) -> LogMetrics:
        """For housekeeping."""
        return LogMetrics(self._registry)

    @cached_property
    def crawl(self) -> CrawlMetrics:
        """For subscriptions."""
        return CrawlMetrics(self._registry)

    @cached_property
    def hosts(self) -> HostWatchMetrics:
        """For housekeeping."""
        return HostWatchMetrics(self._registry)

    @cached_property
    def identity(self) -> IdentityMetrics:
        """For the resolver."""
        return IdentityMetrics(self._registry)

    @cached_property
    def serve(self) -> ServeMetrics:
        """For the serve role."""
        return ServeMetrics(self._registry)

    @cached_property
    def http(self) -> HttpMetrics:
        """For HTTP listeners."""
        return HttpMetrics(self._registry)

    @cached_property
    def supervision(self) -> SupervisionMetrics:
        """For the supervisor."""
        return SupervisionMetrics(self._registry)

    def render(self) -> bytes:
        """All families of this worker in the text exposition format 0.0.4."""
        return prometheus_client.generate_latest(self._registry)
