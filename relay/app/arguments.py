"""Kinds of arguments: from what was typed to a value, or one line why not, which makes the exit code 2. Pure.

And the one argument that several commands share, `--config`.
"""

import argparse
from math import inf
from pathlib import Path

from relay.app import since
from relay.app.config import DEFAULT_FILE
from relay.protocol.limits import UPSTREAM_SEQ_MAX

DEFAULT = "default"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare `--config`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"configuration file (default: {DEFAULT_FILE}, if there is one); RELAY_* in the environment wins",
    )


def positive(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def seconds(text: str) -> float:
    """A time from 0 on."""
    value = float(text)
    if not 0 <= value < inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def moment(text: str) -> str:
    """RFC 3339, from an age or a date and time."""
    try:
        return since.parse_since(text, since.now_ms())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is neither an age such as 2h nor a date and time") from None


def cursor(text: str) -> int:
    """A seq of any host."""
    value = int(text)
    if not 0 <= value <= UPSTREAM_SEQ_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a cursor")
    return value


def count_or_default(text: str) -> str:
    """A whole number as text, or the word `default`."""
    if text != DEFAULT and not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is neither a whole number nor `{DEFAULT}`")
    return text
