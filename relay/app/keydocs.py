"""Writes config/README.md from the table of keys: `python -m relay.app.keydocs > config/README.md`.

Owns the page's text around the table. A test in tests/house compares the committed page with what this module writes.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relay.app.keys import KEYS, SECRETS, TIER_KEYS

_INTRODUCTION = """\
# Configuration

The relay reads `config/relay.toml`, or the file named by `relay run --config FILE`, and then the environment, which
wins. Lists are comma-separated in the environment. Sizes are bytes, or text with `KiB`, `MiB`, `GiB` or `TiB`. A key
that does not exist, a value of the wrong type or out of range ends the start with exit code 2 and one line for each
problem. `relay check` prints what is in effect.

This page is written by `python -m relay.app.keydocs > config/README.md`; a test compares the two.
"""

_LIMITS = """\
## Limits of several serve workers

The kernel deals connections out to the serve workers at random, and each worker counts by itself. Of `consumers.max`
and `consumers.per_address` a worker gives away its even part and five times the square root of that part, never more
than the limit: an uneven deal refuses next to nobody below the limit, and all workers together may go above it by as
much. `http.requests_per_address` holds in each worker as it is, because the requests of one connection all come to the
same worker; the `RateLimit-*` headers tell what is left there.
"""

_TIERS = """\
## Tiers

A tier bounds what one host may send. `default` and `trusted` always exist; `hosts.trusted` names the hosts of the
second and `hosts.account_limit` sets the accounts of the first. Others are added by name (`a-z`, digits, underscore),
and an operator can put a single host into any of them while the relay runs. In the environment a key of a tier is
`RELAY_HOSTS_TIERS_<NAME>_<KEY>`. The defaults here are those of `default` and of new tiers; `trusted` has far higher
ones.
"""

_SECRETS = """\
## Secrets

Only from the environment, or from a file that the environment names; never in the configuration file.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_keys(), "", _LIMITS, _TIERS, *_tiers(), "", _SECRETS, *_secrets(), ""])


def _keys() -> Iterator[str]:
    yield from _head("key", "environment", "default", "takes", "meaning")
    for key in KEYS:
        default = key.kind.show(_plain(key.default))
        yield _row(f"`{key.name}`", f"`{key.variable}`", f"`{default}`", key.kind.allowed, key.doc)


def _tiers() -> Iterator[str]:
    yield from _head("key", "default", "takes", "meaning")
    for key in TIER_KEYS:
        yield _row(f"`hosts.tiers.<name>.{key.field}`", f"`{key.kind.show(key.default)}`", key.kind.allowed, key.doc)


def _secrets() -> Iterator[str]:
    yield from _head("environment", "or a file", "meaning")
    for secret in SECRETS:
        yield _row(f"`{secret.variable}`", f"`{secret.file_variable}`", secret.doc)


def _head(*titles: str) -> Iterator[str]:
    yield _row(*titles)
    yield _row(*("---" for _ in titles))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(value: Any) -> Any:
    return f"./{value}" if isinstance(value, Path) else value


if __name__ == "__main__":
    sys.stdout.write(page())
