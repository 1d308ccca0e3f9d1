"""The `relay` command: arguments, exit codes and what people see when something is wrong.

Owns argv and the table of commands, one function each: `add` declares its arguments, `run` does it and returns the exit
code: 0 done; 1 found a problem in what it looked at; 2 usage or configuration, which is all that the operator has to
change before it can begin, data_dir included; 130 Ctrl-C. What a command does is in a module of its own.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from relay import __version__
from relay.app import backup, check, compact, compare, config, demo, inspect, lifecycle, ops, pullhosts, tail
from relay.app.arguments import add_config, cursor, moment, positive, seconds
from relay.app.config import ConfigError
from relay.app.demorelay import DemoFailed
from relay.app.demoscreen import Screen
from relay.app.kinds import is_http_url
from relay.app.ops import ACCOUNTS, CONSUMERS, DOMAINS, HOSTS, add_actions
from relay.app.run import run_relay
from relay.app.tables import terminal_width
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


def _add_run(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--end-with-parent", action="store_true", help="stop when whoever started this is gone (Linux)")


def _run(arguments: Arguments) -> int:
    if arguments.end_with_parent:
        lifecycle.die_with_parent()
    settings = config.load(arguments.config)
    logs.configure(settings.logging.level, settings.logging.format, role="supervisor", worker=0)
    trio.run(run_relay, settings, config.file_read(arguments.config))
    return DONE


def _check(arguments: Arguments) -> int:
    settings = config.load(arguments.config)
    for line in config.effective(settings):
        print(line)
    found = trio.run(check.problems, settings)
    for line in found:
        print(f"problem: {line}", file=sys.stderr)
    return PROBLEM if found else DONE


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=seconds, default=30.0, metavar="N", help="how long; 0: until Ctrl-C")
    parser.add_argument("--hosts", type=positive, default=3, metavar="N", help="simulated hosts (3)")
    parser.add_argument("--accounts", type=positive, default=30, metavar="N", help="their accounts together (30)")
    parser.add_argument("--rate", type=positive, default=200, metavar="N", help="events a second (200)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave configuration, log and data there")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the simulated network (1)")


def _demo(arguments: Arguments) -> int:
    options = demo.DemoOptions(
        seconds=arguments.seconds,
        hosts=arguments.hosts,
        accounts=arguments.accounts,
        rate=arguments.rate,
        keep=arguments.keep,
        seed=arguments.seed,
    )
    return DONE if trio.run(demo.demo, options, Screen()) else PROBLEM


def _add_tail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="of a relay or PDS, for instance ws://127.0.0.1:2470")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--cursor", type=cursor, metavar="N", help="start after this seq; 0: the whole window")
    start.add_argument("--since", type=moment, metavar="WHEN", help="start there: 90s, 10m, 2h, 3d ago, or a date-time")
    parser.add_argument("--count", type=positive, metavar="N", help="stop after so many events")
    parser.add_argument("--seconds", type=seconds, metavar="N", help="stop after so long")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--contiguous", action="store_true", help="a gap in seq is a problem (PDSes have gaps)")
    parser.add_argument("--verify", action="store_true", help="check signatures, operations and status itself")
    parser.add_argument("--plc", metavar="URL", default=tail.PLC_URL, help=f"directory for --verify ({tail.PLC_URL})")


def _tail(arguments: Arguments) -> int:
    options = tail.TailOptions(
        url=arguments.url,
        cursor=arguments.cursor,
        events=arguments.count,
        seconds=arguments.seconds,
        as_json=arguments.json,
        contiguous=arguments.contiguous,
        since=arguments.since,
        verify=arguments.verify,
        plc_url=arguments.plc,
    )
    return DONE if trio.run(tail.tail, options, print) else PROBLEM


def _add_pull_hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FROM_URL", help="of the relay, for instance https://bsky.network")
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="the outcome as JSON, for scripts")


def _pull_hosts(arguments: Arguments) -> int:
    settings = config.load(arguments.config)
    if not is_http_url(arguments.source):
        raise ConfigError(f"FROM_URL: takes the http(s) URL of a relay, not {arguments.source!r}")
    logs.configure("error", settings.logging.format)
    run = trio.run(pullhosts.pull_hosts, settings, arguments.source)
    if arguments.json:
        print(json.dumps(pullhosts.report(arguments.source, run), ensure_ascii=False))
    else:
        print("\n".join(pullhosts.lines(arguments.source, run)))
    return PROBLEM if run.error else DONE


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url_a", metavar="URL_A", help="of a relay, for instance wss://bsky.network")
    parser.add_argument("url_b", metavar="URL_B", help="of another")
    parser.add_argument("--seconds", type=seconds, default=60.0, metavar="N", help="for how long (60)")
    parser.add_argument("--json", action="store_true", help="the report as JSON, for scripts")


def _compare(arguments: Arguments) -> int:
    report = compare.run(arguments.url_a, arguments.url_b, arguments.seconds)
    if report is None:
        return PROBLEM
    print(json.dumps(report) if arguments.json else "\n".join(compare.lines(report, terminal_width())))
    return DONE


COMMANDS: tuple[Command, ...] = (
    Command("run", "run the relay in the foreground until SIGTERM or Ctrl-C", _add_run, _run),
    Command("demo", "run a whole relay against a small network that it simulates on loopback", _add_demo, _demo),
    Command("tail", "print and check the stream of a relay or PDS, one line an event", _add_tail, _tail),
    Command("hosts", "list, show, add, ban and limit hosts of a running relay", partial(add_actions, HOSTS), ops.run),
    Command("accounts", "list, show, take down and restore accounts", partial(add_actions, ACCOUNTS), ops.run),
    Command("domains", "ban domains with all hosts below them", partial(add_actions, DOMAINS), ops.run),
    Command("consumers", "list consumers, and send one away", partial(add_actions, CONSUMERS), ops.run),
    Command("pull-hosts", "add the hosts that another relay lists", _add_pull_hosts, _pull_hosts),
    Command("compare", "read two relays at once and show what only one of them has", _add_compare, _compare),
    Command("inspect", "look for faults in the log and state of a relay at rest", inspect.add, inspect.run),
    Command("backup", "copy the data of a relay, which may be running", backup.add, backup.run),
    Command("compact", "rewrite the state of a relay at rest without what is free in it", compact.add, compact.run),
    Command("check", "print the effective configuration and check this machine", add_config, _check),
)


class _Help(argparse.HelpFormatter):
    """Room for the longest command beside its line: argparse counts options, but not the commands below it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = 4 + max(len(command.name) for command in COMMANDS)


def parser_of(commands: Sequence[Command]) -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="relay",
        description="An AT Protocol relay that verifies everything, loses nothing and explains itself.",
        epilog="exit codes: 0 done, 1 found a problem, 2 usage or configuration, 130 Ctrl-C",
        formatter_class=_Help,
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
        print(f"relay: data_dir: {error.told}", file=sys.stderr)
        return USAGE
    except DemoFailed as error:
        print(f"relay: {error}", file=sys.stderr)
        return PROBLEM
    except BrokenPipeError:
        sys.stdout = None  # whoever read our output has gone; so has what is buffered
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            return INTERRUPTED
        raise
