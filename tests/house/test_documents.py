"""Documents against code: configuration, metrics, and what no committed file may hold."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from relay.app import config, keydocs
from relay.app.keys import KEYS
from relay.app.settings import RelaySettings
from relay.observe import labels
from relay.observe.metrics import Metrics
from tests.house.sources import ROOT, modules, name_of, project_files
from tests.support.shared import shared_dir

# Fixed by interface.md: dashboards and alerts of others depend on them.
FIXED_METRICS = [
    "relay_build_info",
    "relay_crawl_hosts",
    "relay_crawl_reconnects_total",
    "relay_disk_free_bytes",
    "relay_http_requests_seconds",
    "relay_http_requests_total",
    "relay_identity_lookups_seconds",
    "relay_identity_lookups_total",
    "relay_ingest_batch_items",
    "relay_ingest_batch_seconds",
    "relay_ingest_chain_breaks_total",
    "relay_ingest_events_dropped_total",
    "relay_ingest_events_unproven_total",
    "relay_ingest_frames_received_total",
    "relay_ingest_in_flight",
    "relay_ingest_lag_seconds",
    "relay_ingest_lanes_waiting",
    "relay_ingest_verify_seconds",
    "relay_log_bytes",
    "relay_log_commit_seconds",
    "relay_log_events_appended_total",
    "relay_log_floor_seq",
    "relay_log_lock_held_seconds",
    "relay_log_lock_wait_seconds",
    "relay_log_segments",
    "relay_log_tip_seq",
    "relay_log_tip_time_seconds",
    "relay_serve_append_to_send_seconds",
    "relay_serve_bytes_sent_total",
    "relay_serve_consumer_lag_seconds",
    "relay_serve_consumers",
    "relay_serve_disconnects_total",
    "relay_serve_frames_sent_total",
    "relay_state_bytes",
    "relay_state_free_pages",
    "relay_state_map_bytes",
    "relay_state_oldest_reader_seconds",
    "relay_worker_up",
]
ADDED_METRICS = [
    "relay_crawl_host_account_limit_ratio",
    "relay_crawl_hosts_near_account_limit",
    "relay_crawl_hosts_near_rate_limit",
    "relay_crawl_hosts_over_account_limit",
    "relay_http_faults_total",
    "relay_worker_restarts_total",
]

# Fields that no operator sets: they follow from other keys, or are bounds nobody had a reason to move.
INNER_FIELDS = {
    "hosts.tiers",
    "admin_password",
    "identity.lookups_at_once",
    "identity.lookup_seconds",
    "identity.cache_entries",
    "consumers.hot_bytes",
}

_MACHINE_PATH = re.compile(rb"/(work|farm|root)/|/tmp/[a-z]+/|/home/[a-z]+/")
_PAPER = re.compile(r"(?<!/ \")\b[a-z]+\.md\b|\b(?i:checklist(?= [0-9])|design section|reference table)")
_HOST_IN_LOCK = re.compile(r"://|index-url|registry")


def all_groups() -> Metrics:
    metrics = Metrics()
    metrics.build_info("1")
    for group in (name for name in dir(Metrics) if not name.startswith("_") and name not in ("render", "build_info")):
        getattr(metrics, group)
    return metrics


def families() -> dict[str, str]:
    """Name and help text of every metric of ours."""
    lines = all_groups().render().decode().splitlines()
    helps = [line.split(" ", 3) for line in lines if line.startswith("# HELP relay_")]
    return {name: text for _, _, name, text in helps}


def test_metrics_have_the_fixed_names() -> None:
    assert sorted(families()) == sorted(FIXED_METRICS + ADDED_METRICS)


def test_every_metric_says_what_it_is() -> None:
    assert {name for name, text in families().items() if len(text) < 15 or not text.endswith(".")} == set()


def test_metrics_named_in_full_by_the_interface_are_ours() -> None:
    text = (shared_dir() / "interface.md").read_text()
    section = text[text.index("## Metrics") : text.index("## Benchmarks")]
    named = set(re.findall(r"`(relay_[a-z_]+[a-z])(?:\{[a-z,]+\})?`", section))

    assert named - set(families()) == set()


def test_alerts_name_metrics_labels_and_jobs_that_there_are() -> None:
    """Of a misspelt one Prometheus says nothing: the alert never fires."""
    expressions = "\n".join(re.findall(r"expr: (.*)", (ROOT / "deploy/alerts.yml").read_text()))
    selected = re.findall(r'(\w+)!?="([^"]*)"', expressions)
    known = {word for group in vars(labels).values() if isinstance(group, tuple) for word in group}
    jobs = re.findall(r"job_name: (\S+)", (ROOT / "deploy/prometheus.yml").read_text())

    assert set(re.findall(r"relay_\w+", expressions)) - set(families()) == set()
    assert {value for label, value in selected if label != "job"} - known == set()
    assert {value for label, value in selected if label == "job"} == set(jobs)


def test_the_page_of_keys_is_what_the_code_says() -> None:
    """To mend it: `python -m relay.app.keydocs > config/README.md`."""
    assert (ROOT / "config/README.md").read_text() == keydocs.page()


def test_the_shipped_configuration_holds_the_defaults() -> None:
    shipped = config.load(ROOT / "config/relay.toml", {}, cores=2)

    assert shipped == config.load(Path("/dev/null"), {}, cores=2)


def test_every_key_of_the_interface_exists() -> None:
    text = (shared_dir() / "interface.md").read_text()
    section = text[text.index("## Configuration") : text.index("## HTTP on")]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_.]+)`", row)}

    assert named - {key.name for key in KEYS} - {"hosts.tiers.<name>"} == set()


def leaves(value: Any, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for field in fields(value):
        inner = getattr(value, field.name)
        found |= leaves(inner, f"{prefix}{field.name}.") if is_dataclass(inner) else {prefix + field.name}
    return found


def test_every_setting_has_a_key_or_is_known_to_have_none() -> None:
    assert leaves(RelaySettings()) == {key.place for key in KEYS} | INNER_FIELDS


def test_no_file_names_a_place_of_one_machine() -> None:
    found = [name_of(path) for path in project_files() if _MACHINE_PATH.search(path.read_bytes())]

    assert found == []


def papers_in(text: str) -> set[str]:
    """The papers outside the repository that a text cites; a file that it opens is none."""
    return {word.lower() for word in _PAPER.findall(text)}


def test_every_paper_that_is_cited_is_introduced() -> None:
    cited = set().union(*(papers_in(path.read_text()) for path in modules("relay", "tests", "benchmarks")))
    rows = re.findall(r'^\| ".*" \|', (ROOT / "README.md").read_text(), re.MULTILINE)

    assert cited == papers_in("\n".join(rows))


def test_lock_files_pin_by_hash_and_name_no_host() -> None:
    locks = sorted(ROOT.glob("*.lock"))
    assert [path.name for path in locks] == ["requirements-browser.lock", "requirements-dev.lock", "requirements.lock"]
    for path in locks:
        text = path.read_text()
        pinned = re.findall(r"^[A-Za-z0-9_.-]+==[^ ]+", text, re.MULTILINE)

        assert pinned
        assert not _HOST_IN_LOCK.search(text)
        assert len(re.findall(r"^[A-Za-z0-9_.-]+==[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)) == len(pinned)
