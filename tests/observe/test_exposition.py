"""The join of the workers' expositions: one family head, every series named, values untouched."""

from collections.abc import Iterator

from hypothesis import example, given
from hypothesis import strategies as st

from relay.observe.exposition import Exposition, merge
from relay.observe.metrics import Metrics


def lines_of(*expositions: Exposition) -> list[str]:
    return merge(expositions).decode().splitlines()


def worker(role: str, index: int) -> Exposition:
    metrics = Metrics()
    metrics.ingest.frames_received.labels("#commit").inc(index + 1)
    metrics.ingest.verify_seconds.observe(0.0003)
    metrics.ingest.in_flight.set(7)
    return Exposition(role, index, metrics.render())


def test_help_and_type_stand_once_and_before_the_samples() -> None:
    lines = lines_of(worker("ingest", 0), worker("ingest", 1))

    heads = [line for line in lines if line.startswith("#")]
    assert len(heads) == len(set(heads))
    family = [line for line in lines if "relay_ingest_in_flight" in line]
    assert [line.split()[1] for line in family[:2]] == ["HELP", "TYPE"]
    assert family[2:] == [
        'relay_ingest_in_flight{role="ingest",worker="0"} 7.0',
        'relay_ingest_in_flight{role="ingest",worker="1"} 7.0',
    ]


def test_labels_of_the_worker_keep_their_place_behind_role_and_worker() -> None:
    lines = lines_of(worker("ingest", 0), worker("ingest", 1))

    assert [line for line in lines if line.startswith("relay_ingest_frames_received_total{") and "#commit" in line] == [
        'relay_ingest_frames_received_total{role="ingest",worker="0",event="#commit"} 1.0',
        'relay_ingest_frames_received_total{role="ingest",worker="1",event="#commit"} 2.0',
    ]


def test_a_histogram_stays_whole_for_each_worker() -> None:
    """All buckets, count and sum of worker 0 are there, in their order, and still rise."""
    lines = lines_of(worker("ingest", 0), worker("ingest", 1))

    mine = [line for line in lines if line.startswith("relay_ingest_verify_seconds") and 'worker="0"' in line]
    buckets = [float(line.rsplit(" ", 1)[1]) for line in mine if "_bucket{" in line]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1.0
    assert [line.split("{")[0] for line in mine[-2:]] == [
        "relay_ingest_verify_seconds_count",
        "relay_ingest_verify_seconds_sum",
    ]


def test_a_series_about_another_worker_is_left_alone() -> None:
    supervisor = Metrics()
    supervisor.supervision.worker_up.labels("serve", "3").set(1)
    supervisor.supervision.worker_restarts.labels("serve", "3", "killed").inc()

    lines = lines_of(Exposition("supervisor", 0, supervisor.render()))

    assert 'relay_worker_up{role="serve",worker="3"} 1.0' in lines
    assert 'relay_worker_restarts_total{outcome="killed",role="serve",worker="3"} 1.0' in lines


def test_every_series_says_role_and_worker() -> None:
    def unnamed(lines: list[str]) -> Iterator[str]:
        yield from (
            line for line in lines if not line.startswith("#") and not ('role="' in line and 'worker="' in line)
        )

    assert list(unnamed(lines_of(worker("ingest", 0), worker("serve", 0), worker("supervisor", 0)))) == []


@example('x",role="serve')
@example('{role="serve"} 1\n# TYPE x counter')
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_no_label_value_can_break_the_join(value: str) -> None:
    """Whatever a label holds (quotes, braces, line ends, a fake role), the sample gains exactly our two labels."""
    metrics = Metrics()
    metrics.http.requests.labels(value, "200").inc()
    before = next(
        line for line in metrics.render().decode().split("\n") if line.startswith("relay_http_requests_total{")
    )

    merged = merge([Exposition("ingest", 4, metrics.render())]).decode().split("\n")

    after = [line for line in merged if line.startswith("relay_http_requests_total{")]
    assert after == [before.replace("{", '{role="ingest",worker="4",', 1)]


def test_of_nothing_is_nothing() -> None:
    assert merge([]) == b""
