"""What every benchmark shares: timing, yardsticks to compare with, bars to reach, and the one line of JSON.

A figure means little by itself on a shared machine, so each case names a yardstick measured in the same run, and is
judged by its ratio to it (design section 11). Yardsticks are timed in turn with the cases, round by round, and the best
round counts for both.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import coincurve
from coincurve._libsecp256k1 import lib
from coincurve.context import GLOBAL_CONTEXT
from coincurve.ecdsa import der_to_cdata

Operation = Callable[[], object]


class Bar(NamedTuple):
    """What a case has to reach: its value, or its ratio to the yardstick, is at most or at least `limit`."""

    of: Literal["value", "ratio"]
    relation: Literal["<=", ">="]
    limit: float

    def is_met(self, measured: float) -> bool:
        """Whether a measured value, or ratio, reaches it."""
        return measured <= self.limit if self.relation == "<=" else measured >= self.limit


class Case(NamedTuple):
    """One result: `value` in `unit`, and how many times the yardstick `ratio_to` that is (None for a yardstick)."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    ratio_to: str | None = None
    bars: tuple[Bar, ...] = ()

    def missed(self) -> list[Bar]:
        """The bars that it does not reach."""
        return [bar for bar in self.bars if not bar.is_met(self.value if bar.of == "value" else self.ratio or 0.0)]


class Timed(NamedTuple):
    """Something to time: `run` does `operations` of them; `ratio_to` is the name of another one, its yardstick."""

    name: str
    run: Operation
    operations: int
    ratio_to: str | None = None
    bars: tuple[Bar, ...] = ()


def measure(timed: Sequence[Timed], *, rounds: int = 7) -> list[Case]:
    """Microseconds per operation of each, the best of `rounds` interleaved rounds."""
    best = dict.fromkeys((one.name for one in timed), float("inf"))
    for _ in range(rounds):
        for one in timed:
            began = time.perf_counter()
            one.run()
            best[one.name] = min(best[one.name], (time.perf_counter() - began) / one.operations * 1e6)
    cases = []
    for one in timed:
        ratio = best[one.name] / best[one.ratio_to] if one.ratio_to else None
        cases.append(Case(one.name, best[one.name], "us", ratio, one.ratio_to, one.bars))
    return cases


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, in whatever order they come; 1 is the largest one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def bare_verify(signatures: int = 200) -> Timed:
    """The C call of a secp256k1 verification alone: distinct signatures, they and the key parsed beforehand."""
    private = coincurve.PrivateKey(sha256(b"yardstick").digest())
    digests = [sha256(number.to_bytes(4, "big")).digest() for number in range(signatures)]
    signed = [(der_to_cdata(private.sign(digest, hasher=None)), digest) for digest in digests]
    key = private.public_key.public_key
    context = GLOBAL_CONTEXT.ctx

    def run() -> None:
        verify = lib.secp256k1_ecdsa_verify
        for signature, digest in signed:
            if not verify(context, signature, digest, key):
                raise AssertionError("a yardstick signature does not verify")

    return Timed("bare_verify", run, signatures)


def hashing(blocks: Sequence[bytes], operations: int) -> Timed:
    """SHA-256 of every block, spread over `operations`."""

    def run() -> None:
        for block in blocks:
            sha256(block).digest()

    return Timed("sha256", run, operations)


def copying(payloads: Sequence[bytes]) -> Timed:
    """One copy of each payload: what memcpy and an allocation cost."""
    sources = [memoryview(payload) for payload in payloads]

    def run() -> None:
        for source in sources:
            bytes(source)

    return Timed("memcpy", run, len(payloads))


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the flags that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    return parser


def report(bench: str, cases: Sequence[Case], given: argparse.Namespace) -> None:
    """Print the result, as one line of JSON or as a table for people; ends the process as `--check` wants it."""
    if given.json:
        print(json.dumps({"bench": bench, "cases": [_row(case) for case in cases], "machine": machine()}))
    else:
        for case in cases:
            ratio = f"{case.ratio:8.3f} x {case.ratio_to}" if case.ratio is not None else ""
            print(f"{case.name:32} {case.value:12.2f} {case.unit:12} {ratio:28} {_words(case)}".rstrip())
    if given.check and any(case.missed() for case in cases):
        sys.exit(1)


def _words(case: Case) -> str:
    """The bars of a case, and whether they are reached."""
    missed = case.missed()
    words = (f"{bar.of} {bar.relation} {bar.limit:g}: {'missed' if bar in missed else 'reached'}" for bar in case.bars)
    return ", ".join(words)


def _row(case: Case) -> dict[str, Any]:
    bars = [{**bar._asdict(), "reached": bar not in case.missed()} for bar in case.bars]
    return {**case._asdict(), "value": _short(case.value), "ratio": _short(case.ratio), "bars": bars}


def machine() -> dict[str, Any]:
    """What a reader needs to know about where the figures come from."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "arch": platform.machine(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
