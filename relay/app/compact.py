"""`relay compact`: the state of a relay that does not run, rewritten without what is free in it.

Owns the arguments, what is printed, and that no relay is at work meanwhile; the rewriting is `relay.store.copies`.
"""

import argparse

from relay.app import config
from relay.app.arguments import add_config
from relay.app.lock import alone
from relay.app.tables import mebibytes
from relay.store.copies import compact
from relay.store.creation import is_ours
from relay.store.errors import LayoutMismatch


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Rewrite it. Raises ConfigError for a folder in use, StoreError."""
    settings = config.load(arguments.config)
    if not is_ours(settings.data_dir):  # before the lock makes a file there
        raise LayoutMismatch(f"{settings.data_dir} holds no relay")
    with alone(settings.data_dir):
        sizes = compact(settings.data_dir, settings.log)
    print(f"{settings.data_dir}: the state has {mebibytes(sizes.after)}, it had {mebibytes(sizes.before)}")
    return 0
