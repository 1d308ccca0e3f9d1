"""The lists of label values against the modules that decide them, and what they are for."""

from typing import get_args

import pytest

from relay.crawl.hoststate import Ending
from relay.net.connection import HttpEvent
from relay.observe import labels
from relay.observe.metrics import Metrics
from relay.serve.consumer import End
from relay.verify.verdict import Reason


def test_the_lists_are_those_of_the_modules_that_decide() -> None:
    assert {"connected", *Ending} == set(labels.SUBSCRIBED)
    assert set(End) == set(labels.CONSUMERS_GONE)
    assert set(get_args(HttpEvent)) == set(labels.HTTP_FAULTS)


@pytest.mark.parametrize(
    ("group", "name", "label", "values"),
    [
        ("ingest", "relay_ingest_frames_received_total", "event", labels.FRAMES),
        ("ingest", "relay_ingest_events_dropped_total", "reason", tuple(Reason)),
        ("append", "relay_log_events_appended_total", "event", ("#commit", "#sync", "#identity", "#account")),
        ("crawl", "relay_crawl_reconnects_total", "outcome", labels.SUBSCRIBED),
        ("identity", "relay_identity_lookups_total", "outcome", labels.LOOKED_UP),
        ("serve", "relay_serve_disconnects_total", "reason", labels.CONSUMERS_GONE),
        ("http", "relay_http_faults_total", "reason", labels.HTTP_FAULTS),
    ],
)
def test_every_series_of_a_closed_list_is_there_before_its_first_event(
    group: str, name: str, label: str, values: tuple[str, ...]
) -> None:
    """Else `rate()` sees nothing of the first drop, and an alert on it stays silent."""
    metrics = Metrics()
    getattr(metrics, group)

    lines = [line for line in metrics.render().decode().splitlines() if line.startswith(f"{name}{{")]

    assert {line.split(f'{label}="')[1].split('"')[0] for line in lines} == set(values)
    assert all(line.endswith(" 0.0") for line in lines)


def test_the_restarts_of_a_worker_are_there_before_the_first() -> None:
    metrics = Metrics()
    metrics.supervision.set_up("ingest", "1", up=True)

    text = metrics.render().decode()

    assert 'relay_worker_up{role="ingest",worker="1"} 1.0' in text
    for outcome in labels.WORKERS_ENDED:
        assert f'relay_worker_restarts_total{{outcome="{outcome}",role="ingest",worker="1"}} 0.0' in text
