"""`relay backup DEST`: a copy of the store, made while the relay runs or while it does not.

Owns the arguments and what is printed; how a copy is made whole is `relay.store.copies`.
"""

import argparse
import sys
from pathlib import Path

from relay.app import config
from relay.app.arguments import add_config
from relay.app.config import ConfigError
from relay.app.tables import mebibytes
from relay.store.copies import CopyFailed, backup


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("dest", metavar="DEST", type=Path, help="where the copy goes: a folder, missing or empty")
    parser.add_argument("--no-log", action="store_true", help="the state alone; the copy starts with an empty window")
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make the copy; 1 when that was begun and failed. Raises ConfigError, StoreError."""
    settings = config.load(arguments.config)
    place: Path = arguments.dest
    _check_place(place)
    try:
        made = backup(settings.data_dir, place, settings.log, with_log=not arguments.no_log)
    except CopyFailed as error:
        print(f"relay: DEST: {error}", file=sys.stderr)
        return 1
    log = f", a log of {mebibytes(made.log_bytes)} in {made.segments:,} segments" if made.segments else ", no log"
    print(f"{place}: a state of {mebibytes(made.state_bytes)}{log}")
    return 0


def _check_place(place: Path) -> None:
    try:
        is_taken = place.exists() and any(place.iterdir())
    except OSError as error:
        raise ConfigError(f"DEST: {place} cannot be used: {error.strerror}") from error
    if is_taken:
        raise ConfigError(f"DEST: {place} is not empty")
