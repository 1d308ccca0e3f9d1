"""The `relay` command: arguments, exit codes and what people see when something is wrong.

Owns argv and the table of commands, one function each: `add` declares its arguments, `run` does it and returns the exit
code (0 done, 1 found a problem, 2 usage or configuration, 130 Ctrl-C). What a command does is in a module of its own.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from relay import __version__
from relay.app import check, config
from relay.app.config import ConfigError
from relay.app.run import run_relay
from relay.observe import logs
from relay.store.errors import StoreError

DONE, PROBLEM, USAGE, INTERRUPTED = 0, 1, 2, 130

Arguments = argparse.Namespace


class Command(NamedTuple):
    """One subcommand. `help` is its line in `relay --help`; `run` takes the arguments and gives the exit code."""

    name: str
    help: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Arguments], int]


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"configuration file (default: {config.DEFAULT_FILE}, if there is one); RELAY_* in the environment wins",
    )


def _run(arguments: Arguments) -> int:
    settings = config.load(arguments.config)
    logs.configure(settings.logging.level, settings.logging.format, role="supervisor", worker=0)
    trio.run(run_relay, settings)
    return DONE


def _check(arguments: Arguments) -> int:
    settings = config.load(arguments.config)
    for line in config.effective(settings):
        print(line)
    found = trio.run(check.problems, settings)
    for line in found:
        print(f"problem: {line}", file=sys.stderr)
    return PROBLEM if found else DONE


COMMANDS: tuple[Command, ...] = (
    Command("run", "run the relay in the foreground until SIGTERM or Ctrl-C", _add_config, _run),
    Command("check", "print the effective configuration and check this machine", _add_config, _check),
)


def parser_of(commands: Sequence[Command]) -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="relay",
        description="An AT Protocol relay that verifies everything, loses nothing and explains itself.",
        epilog="exit codes: 0 done, 1 found a problem, 2 usage or configuration, 130 Ctrl-C",
    )
    parser.add_argument("--version", action="version", version=f"atproto-relay {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.add(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None, commands: Sequence[Command] = COMMANDS) -> None:
    """Run the command of `argv` (default: this process's) and exit with its code."""
    arguments = parser_of(commands).parse_args(argv)
    sys.exit(exit_code(arguments))


def exit_code(arguments: Arguments) -> int:
    """The exit code of a parsed command; what an operator can mend is told in lines, not as a traceback."""
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        for problem in error.problems:
            print(f"relay: {problem}", file=sys.stderr)
        return USAGE
    except StoreError as error:
        print(f"relay: data_dir: {type(error).__name__}: {error}", file=sys.stderr)
        return PROBLEM
    except KeyboardInterrupt:
        return INTERRUPTED
