"""Every benchmark runs, at its smallest size: what it measures then means nothing, that it can measure does."""

import json
import re
import subprocess
import sys
from typing import NamedTuple

import pytest

from benchmarks.yardstick import percentile
from tests.house.sources import ROOT

SECONDS_MAX = 100.0


class Small(NamedTuple):
    """The options that make a benchmark small, and the names of its cases."""

    options: str
    cases: list[str]


def quartet(*names: str) -> list[str]:
    """What each run of appends comes to."""
    return [f"{name}_{figure}" for name in names for figure in ("p50", "p99", "max", "rate")]


APPENDS = ("raw_put", "append", "shrunk_window", "reader_left_open")
BENCHMARKS = {
    "codec": Small(
        "",
        [
            *("bare_verify", "sha256", "memcpy", "frame_event_template", "parse_frame", "parse_event", "template"),
            *("with_seq", "parse_car", "parse_car_over_hashing", "frame_event_template_ambiguous"),
        ],
    ),
    "verify": Small(
        "--count 20",
        [
            *("bare_verify", "verdict", "slice_inversion", "read_message", "check_signed", "- read_slice"),
            *("- check_signature", "check_ops", "check_tree", "outgoing"),
        ],
    ),
    "ingest": Small("--count 100", ["bare_verify", "worker_cpu_per_event", "worker_events"]),
    "append": Small("--appends 6", quartet(*APPENDS, *(f"{name}_synced" for name in APPENDS))),
    "replay": Small(
        "--events 500 --events-many 500",
        [
            *("raw_read_and_send", "replay", "replays_beside_live_slowest"),
            *("live_beside_replays_p50", "live_beside_replays_p99", "live_beside_replays_max"),
        ],
    ),
    "fanout": Small(
        "--consumers 2 --rounds 2 --idle 2 --seconds 0.2 --stall-seconds 2",
        [
            *("raw_send", "send_message", "relay", "relay_to_library"),
            *("latency_fed", "latency_p50", "latency_p99", "latency_max"),
            *("idle_consumer", "stalled_consumer", "worker_after_stall"),
        ],
    ),
    "queries": Small(
        "--accounts 500 --calls 10",
        [f"{name}_{figure}" for name in ("health", "listRepos", "getRepoStatus") for figure in ("p50", "p99")],
    ),
    "end_to_end": Small(
        "--count 100 --rate 20 --seconds 1",
        ["bare_verify", "round_trip", "carried", "latency_p50_at_20", "latency_p99_at_20"],
    ),
}


def test_those_are_all_that_make_bench_runs() -> None:
    listed = re.search(r"^BENCHMARKS = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert listed
    assert sorted(listed[1].split()) == sorted(BENCHMARKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_prints_its_cases_as_one_line_of_json(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *BENCHMARKS[name].options.split()]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True, timeout=SECONDS_MAX)

    assert (ran.returncode, ran.stderr) == (0, "")
    (line,) = ran.stdout.splitlines()
    printed = json.loads(line)
    assert (printed["bench"], [case["name"] for case in printed["cases"]]) == (name, BENCHMARKS[name].cases)
    assert all(case["value"] > 0 for case in printed["cases"] if case["unit"] != "kB")


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([3.0, 1.0, 4.0, 2.0], share) == value
