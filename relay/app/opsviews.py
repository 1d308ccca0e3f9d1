"""What the operator's commands print: the admin API's answers as tables and facts. Shapes and words only."""

import shutil
import sys
from typing import Any

from relay.app.tables import Column, ago, facts, table


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def done(_answer: Any) -> list[str]:
    """What changes nothing to look at answers."""
    return ["done"]


def host_table(hosts: list[Any]) -> list[str]:
    """Hosts, one a line."""
    columns = (
        Column("HOST", chars_max=60),
        Column("STATUS"),
        Column("ACCOUNTS", is_number=True),
        Column("LIMIT", is_number=True),
        Column("EVENTS/S", is_number=True),
        Column("ACCEPTED", is_number=True),
        Column("DROPPED", is_number=True),
        Column("LAST EVENT", is_number=True),
        Column("LAST ERROR"),
    )
    rows = [
        (
            host["hostname"],
            host["status"],
            host["accounts"],
            host["accountLimit"],
            float(host["ratePerSecond"]),
            host["accepted"],
            sum(host["dropped"].values()),
            ago(host["lastEvent"]),
            host["lastError"],
        )
        for host in hosts
    ]
    return table(columns, rows, _width())


def host_facts(host: Any) -> list[str]:
    """One host with its last drops."""
    limits = host["limits"]
    rates = f"{limits['perSecond']:,} a second, {limits['perHour']:,} an hour, {limits['perDay']:,} a day"
    override = " (of this host)" if host["accountLimitOverride"] is not None else f" (of tier {host['tier']})"
    lines = facts(
        [
            ("host", host["hostname"]),
            ("status", f"{host['status']}, since {host['since'] or '?'}"),
            ("last error", host["lastError"]),
            ("accounts", f"{host['accounts']:,} of {host['accountLimit']:,}{override}"),
            ("events", rates),
            ("mode", host["mode"] or "as configured"),
            ("cursor", host["cursor"]),
            ("epoch", host["epoch"] or None),
            ("first seen", host["firstSeen"]),
            ("last event", host["lastEvent"]),
            ("accepted", host["accepted"]),
            ("dropped", host["dropped"]),
            ("remarks", host["remarks"]),
        ]
    )
    return [*lines, *_drop_lines(host.get("lastDrops", []))]


def _drop_lines(drops: list[Any]) -> list[str]:
    if not drops:
        return []
    columns = (Column("LAST DROPS"), Column("REASON"), Column("ACCOUNT"), Column("DETAIL"))
    return [
        "",
        *table(columns, [(each["time"], each["reason"], each["did"], each["detail"]) for each in drops], _width()),
    ]


def account_table(accounts: list[Any]) -> list[str]:
    """Accounts, one a line."""
    columns = (Column("DID"), Column("ACTIVE"), Column("STATUS"), Column("HERE"), Column("AT ITS HOST"), Column("REV"))
    rows = [
        (each["did"], each["active"], each["status"], each["localStatus"], each["upstreamStatus"], each["rev"])
        for each in accounts
    ]
    return table(columns, rows, _width())


def account_facts(account: Any) -> list[str]:
    """One account with its last drops."""
    lines = facts(
        [
            ("did", account["did"]),
            ("active", account["active"]),
            ("status", account["status"]),
            ("here", account["localStatus"]),
            ("at its host", account["upstreamStatus"] or ("active" if account["upstreamActive"] else "inactive")),
            ("host", account["hostname"]),
            ("rev", account["rev"]),
            ("commit", account["commit"]),
            ("data", account["data"]),
            ("pds", (account["identity"] or {}).get("pds")),
            ("taken down", (account["takedown"] or {}).get("since")),
            ("purge", (account["takedown"] or {}).get("purged")),
        ]
    )
    return [*lines, *_drop_lines(account["lastDrops"])]


def ban_table(answer: Any) -> list[str]:
    """Domain bans, one a line."""
    columns = (Column("DOMAIN"), Column("SINCE"), Column("HOSTS", is_number=True))
    return table(columns, [(each["domain"], each["since"], each["hosts"]) for each in answer["bans"]], _width())


def consumer_table(consumers: list[Any]) -> list[str]:
    """Consumers, one a line."""
    columns = (
        Column("ID", is_number=True),
        Column("ADDRESS"),
        Column("CONNECTED", is_number=True),
        Column("EVENTS", is_number=True),
        Column("LAG S", is_number=True),
        Column("WORKER", is_number=True),
        Column("USER AGENT"),
    )
    rows = [
        (
            each["id"],
            each["remote_addr"],
            ago(each["connected_at"]),
            each["events_consumed"],
            each["lag_seconds"],
            each["worker"],
            each["user_agent"],
        )
        for each in consumers
    ]
    return table(columns, rows, _width())
