"""The operator's commands: `relay hosts`, `accounts`, `domains` and `consumers`, over the admin API of a running relay.

Owns their arguments and what they print: a table or facts for people, with `--json` what the API answered. What they do
is done by the relay, so a command means the same as the button of the dashboard.
"""

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import trio

from relay.app import opsviews
from relay.app.adminclient import DEFAULT_URL, AdminClient, OperationFailed, password_of
from relay.app.arguments import DEFAULT, count_or_default, positive
from relay.app.tables import terminal_width
from relay.serve.admin.hostviews import SORTS, STATUSES
from relay.store.accounts import LOCAL_STATUSES
from relay.verify.modes import MODES

Arguments = argparse.Namespace
Act = Callable[[AdminClient, Arguments], Awaitable[Any]]
Show = Callable[[Any, int | None], list[str]]

LIMIT_MAX = 10_000_000
_MODES = (*MODES, DEFAULT)


class Argument(NamedTuple):
    """One argument of an action, as argparse takes it."""

    name: str
    options: dict[str, Any]


def _nothing(_arguments: Arguments) -> list[str]:
    return []


class Action(NamedTuple):
    """One word after a command: what it takes, does and prints. `show` gets the answer and the terminal's width.

    `hint` is what people are told beside the answer, out of what they asked for.
    """

    name: str
    help: str
    arguments: tuple[Argument, ...]
    act: Act
    show: Show
    hint: Callable[[Arguments], list[str]] = _nothing


def add_actions(actions: tuple[Action, ...], parser: argparse.ArgumentParser) -> None:
    """Declare the actions of a command on its parser."""
    subparsers = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for action in actions:
        subparser = subparsers.add_parser(action.name, help=action.help, description=action.help)
        for argument in action.arguments:
            subparser.add_argument(argument.name, **argument.options)
        subparser.add_argument("--url", default=DEFAULT_URL, help=f"where the relay's admin API is ({DEFAULT_URL})")
        subparser.add_argument("--json", action="store_true", help="the answer as JSON, for scripts")
        subparser.set_defaults(action=action)


def run(arguments: Arguments) -> int:
    """Do what was asked for; 0, or 1 and a line why not."""
    try:
        client = AdminClient(arguments.url, password_of())
        answer = trio.run(partial(arguments.action.act, client, arguments))
    except OperationFailed as error:
        print(f"relay: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(answer, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))
    else:
        action = arguments.action
        for line in [*action.show(answer, terminal_width()), *action.hint(arguments)]:
            print(line)
    return 0


# What is done.


async def _hosts(client: AdminClient, arguments: Arguments) -> Any:
    found: list[Any] = []
    while len(found) < arguments.limit:
        page = await client.get(
            "hosts",
            q=arguments.search or None,
            status=arguments.status,
            sort=arguments.sort,
            order="desc" if arguments.reverse else None,
            offset=len(found),
            limit=min(1_000, arguments.limit - len(found)),
        )
        found += page["hosts"]
        if not page["hosts"] or len(found) >= page["matched"]:
            break
    return found


async def _host(client: AdminClient, arguments: Arguments) -> Any:
    return await client.get("host", hostname=arguments.hostname)


async def _limit(client: AdminClient, arguments: Arguments) -> Any:
    given = {"per_second": arguments.per_second, "per_hour": arguments.per_hour, "per_day": arguments.per_day}
    rates = {name: None if value == DEFAULT else int(value) for name, value in given.items() if value is not None}
    body: dict[str, Any] = (
        {"hostname": arguments.hostname, "rates": rates} if rates else {"hostname": arguments.hostname}
    )
    if arguments.accounts is not None:
        body["account_limit"] = None if arguments.accounts == DEFAULT else int(arguments.accounts)
    if arguments.tier is not None:
        body["tier"] = "" if arguments.tier == DEFAULT else arguments.tier
    return await client.post("hosts/change", body)


async def _mode(client: AdminClient, arguments: Arguments) -> Any:
    mode = "" if arguments.mode == DEFAULT else arguments.mode
    return await client.post("hosts/change", {"hostname": arguments.hostname, "mode": mode})


async def _reset_cursor(client: AdminClient, arguments: Arguments) -> Any:
    return await client.post("hosts/resetCursor", {"hostname": arguments.hostname, "cursor": arguments.cursor})


async def _accounts(client: AdminClient, arguments: Arguments) -> Any:
    return await client.pages("accounts", "accounts", arguments.limit, hostname=arguments.host, local=arguments.local)


async def _takedown(client: AdminClient, arguments: Arguments) -> Any:
    return await client.post("repo/takeDown", {"did": arguments.did, "purge": arguments.purge})


def _purge_hint(arguments: Arguments) -> list[str]:
    if not arguments.purge:
        return []
    return [
        "the purge of its frames in the window has begun, in the background; how far it is:",
        f"  relay accounts show {arguments.did}",
    ]


def _simple(method: str, path: str, *names: str) -> Act:
    """An action that hands its arguments on: as parameters of a GET or of a POST without a body."""

    async def act(client: AdminClient, arguments: Arguments) -> Any:
        values = {name: getattr(arguments, name) for name in names}
        return await (client.get(path, **values) if method == "GET" else client.post(path, None, **values))

    return act


def _posting(path: str, **names: str) -> Act:
    """An action that posts JSON: `names` maps each key to the argument of its value."""

    async def act(client: AdminClient, arguments: Arguments) -> Any:
        return await client.post(path, {key: getattr(arguments, name) for key, name in names.items()})

    return act


_HOSTNAME = Argument("hostname", {"metavar": "HOST"})
_HOST = Argument("host", {"metavar": "HOST"})
_DID = Argument("did", {"metavar": "DID"})
_DOMAIN = Argument("domain", {"metavar": "DOMAIN"})
_LIMIT = Argument("--limit", {"type": positive, "default": LIMIT_MAX, "metavar": "N", "help": "at most so many"})

HOSTS = (
    Action(
        "list",
        "the hosts this relay knows",
        (
            Argument("search", {"nargs": "?", "metavar": "TEXT", "help": "part of the name"}),
            Argument("--status", {"choices": STATUSES}),
            Argument("--sort", {"choices": tuple(SORTS), "metavar": "BY", "help": ", ".join(SORTS)}),
            Argument("--reverse", {"action": "store_true", "help": "greatest first"}),
            _LIMIT,
        ),
        _hosts,
        opsviews.host_table,
    ),
    Action("show", "one host with its limits and last drops", (_HOSTNAME,), _host, opsviews.host_facts),
    Action("add", "read a host", (_HOSTNAME,), _posting("pds/requestCrawl", hostname="hostname"), opsviews.done),
    Action(
        "block", "ban a host: disconnect it, for good", (_HOST,), _simple("POST", "pds/block", "host"), opsviews.done
    ),
    Action(
        "unblock", "end a ban, and read the host again", (_HOST,), _simple("POST", "pds/unblock", "host"), opsviews.done
    ),
    Action(
        "reconnect",
        "end the connection and begin another",
        (_HOSTNAME,),
        _simple("POST", "hosts/reconnect", "hostname"),
        opsviews.done,
    ),
    Action(
        "limit",
        "change what a host may do; `default` gives a limit back to the tier",
        (
            _HOSTNAME,
            Argument("--accounts", {"type": count_or_default, "metavar": "N"}),
            Argument("--per-second", {"type": count_or_default, "metavar": "N"}),
            Argument("--per-hour", {"type": count_or_default, "metavar": "N"}),
            Argument("--per-day", {"type": count_or_default, "metavar": "N"}),
            Argument("--tier", {"metavar": "NAME"}),
        ),
        _limit,
        opsviews.host_facts,
    ),
    Action(
        "mode",
        "change how strictly a host's chains are judged",
        (_HOSTNAME, Argument("mode", {"choices": _MODES})),
        _mode,
        opsviews.host_facts,
    ),
    Action(
        "reset-cursor",
        "read a host on after another seq of its own",
        (_HOSTNAME, Argument("--cursor", {"type": int, "metavar": "SEQ", "help": "default: its whole window"})),
        _reset_cursor,
        opsviews.host_facts,
    ),
)

ACCOUNTS = (
    Action(
        "list",
        "accounts in the order of their DIDs",
        (
            Argument("--host", {"metavar": "HOST"}),
            Argument("--local", {"choices": LOCAL_STATUSES, "help": "those of this relay's own status"}),
            Argument("--limit", {"type": positive, "default": 1_000, "metavar": "N", "help": "at most so many (1000)"}),
        ),
        _accounts,
        opsviews.account_table,
    ),
    Action(
        "show",
        "one account, and why it is not heard",
        (_DID,),
        _simple("GET", "account", "did"),
        opsviews.account_facts,
    ),
    Action(
        "takedown",
        "stop an account's content and tell consumers",
        (_DID, Argument("--purge", {"action": "store_true", "help": "also replace its frames in the window"})),
        _takedown,
        opsviews.taken_down,
        _purge_hint,
    ),
    Action("restore", "end a takedown", (_DID,), _posting("repo/reverseTakedown", did="did"), opsviews.done),
)

DOMAINS = (
    Action("list", "the banned domains", (), _simple("GET", "subs/listDomainBans"), opsviews.ban_table),
    Action(
        "ban", "ban a domain and all below it", (_DOMAIN,), _posting("subs/banDomain", Domain="domain"), opsviews.done
    ),
    Action(
        "unban", "end the ban of a domain", (_DOMAIN,), _posting("subs/unbanDomain", Domain="domain"), opsviews.done
    ),
)

CONSUMERS = (
    Action("list", "who reads this relay", (), _simple("GET", "consumers/list"), opsviews.consumer_table),
    Action(
        "kick",
        "end the connection of a consumer",
        (Argument("id", {"type": int, "metavar": "ID"}),),
        _posting("consumers/kick", id="id"),
        opsviews.done,
    ),
)
