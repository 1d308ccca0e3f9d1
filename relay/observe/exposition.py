"""One scrape out of many: joins the text expositions of the workers and names the worker on each series.

Owns the join only, on the text format 0.0.4 as prometheus_client writes it (one HELP and TYPE line a family, before its
samples). Does not parse values or labels, so histograms and counters pass untouched. Pure.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Exposition(NamedTuple):
    """What one worker answered, and who it is."""

    role: str
    worker: int
    text: bytes


class _Family:
    """HELP and TYPE of the worker that named the family first, and the samples of all of them."""

    def __init__(self) -> None:
        self.head: dict[str, str] = {}
        self.samples: list[str] = []


def merge(expositions: Iterable[Exposition]) -> bytes:
    """One exposition with every family once and `role` and `worker` on every sample.

    A sample that has a `role` label already is about another worker (the supervisor's) and stays as it is. Families
    keep the order in which they were met, samples within one that of the expositions.
    """
    families: dict[str, _Family] = {}
    for exposition in expositions:
        _add(families, exposition)
    lines: list[str] = []
    for family in families.values():
        lines.extend(family.head.values())
        lines.extend(family.samples)
    return "".join(f"{line}\n" for line in lines).encode()


def _add(families: dict[str, _Family], exposition: Exposition) -> None:
    origin = f'role="{exposition.role}",worker="{exposition.worker}"'
    family = _Family()
    for line in exposition.text.decode().split("\n"):
        if line.startswith(("# HELP ", "# TYPE ")):
            keyword, name = line[2:].split(" ", 3)[:2]
            family = families.setdefault(name, _Family())
            family.head.setdefault(keyword, line)
        elif line and not line.startswith("#"):
            family.samples.append(_named(line, origin))


def _named(sample: str, origin: str) -> str:
    """`sample` with the labels of `origin` put before its own. A name never holds a brace or a blank, a value may."""
    name_end = next(index for index, char in enumerate(sample) if char in "{ ")
    if sample[name_end] == " ":
        return f"{sample[:name_end]}{{{origin}}}{sample[name_end:]}"
    if '{role="' in sample or ',role="' in sample:  # in a label value the quote would be escaped
        return sample
    return f"{sample[:name_end]}{{{origin},{sample[name_end + 1 :]}"
