"""What a registry exposes. That the names are the fixed ones is checked in tests/house."""

from relay.observe.metrics import Metrics


def exposed(metrics: Metrics) -> str:
    return metrics.render().decode()


def test_a_group_nobody_touches_exposes_nothing() -> None:
    metrics = Metrics()
    metrics.serve.consumers.set(2)

    text = exposed(metrics)

    assert "relay_serve_consumers 2.0" in text
    assert "relay_ingest" not in text


def test_two_registries_do_not_share_a_series() -> None:
    one, other = Metrics(), Metrics()
    one.ingest.chain_breaks.inc(3)
    other.ingest.chain_breaks.inc(4)

    assert "relay_ingest_chain_breaks_total 3.0" in exposed(one)
    assert "relay_ingest_chain_breaks_total 4.0" in exposed(other)


def test_the_process_is_part_of_every_exposition() -> None:
    text = exposed(Metrics())

    assert "process_cpu_seconds_total" in text
    assert "process_open_fds" in text
    assert "python_gc_collections_total" in text


def test_build_info_names_the_version() -> None:
    metrics = Metrics()
    metrics.build_info("1.2.3")

    assert 'version="1.2.3"' in exposed(metrics)


def test_no_creation_times() -> None:
    metrics = Metrics()
    metrics.ingest.batch_seconds.observe(1)

    assert "_created" not in exposed(metrics)
