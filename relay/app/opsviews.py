"""What the operator's commands print: the admin API's answers as tables and facts. Shapes and words only."""

from typing import Any

from relay.app.tables import Column, ago, facts, span, table

_RATES = (("perSecond", "per_second", "a second"), ("perHour", "per_hour", "an hour"), ("perDay", "per_day", "a day"))
_OF_HOST = " (of this host)"


def done(_answer: Any, _width: int | None) -> list[str]:
    """What changes nothing to look at answers."""
    return ["done"]


def taken_down(_answer: Any, _width: int | None) -> list[str]:
    """What a takedown has done by now."""
    return ["taken down: no content of the account passes, and consumers are told"]


def host_table(hosts: list[Any], width: int | None) -> list[str]:
    """Hosts, one a line; on a terminal the last error is on a line below."""
    columns = (
        Column("HOST", chars_min=28),
        Column("STATUS"),
        Column("ACCOUNTS", is_number=True, rank=1),
        Column("LIMIT", is_number=True, rank=3),
        Column("EVENTS/S", is_number=True),
        Column("BEHIND", is_number=True),
        Column("ACCEPTED", is_number=True, rank=2),
        Column("DROPPED", is_number=True),
        Column("HEARD", is_number=True),
    )
    rows = [
        (
            host["hostname"],
            host["status"],
            host["accounts"],
            host["accountLimit"],
            float(host["ratePerSecond"]),
            _behind(host),
            host["accepted"],
            sum(host["dropped"].values()),
            ago(host["lastEvent"]),
        )
        for host in hosts
    ]
    return table(columns, rows, width, Column("LAST ERROR"), [host["lastError"] for host in hosts])


def _behind(host: Any) -> str | None:
    seconds = host["catchingUpSeconds"]
    return span(seconds) if seconds else "no" if host["connected"] else None


def host_facts(host: Any, width: int | None) -> list[str]:
    """One host with its last drops."""
    limit = _OF_HOST if host["accountLimitOverride"] is not None else f" (of tier {host['tier']})"
    gap, before = host["possibleGap"], host["cursorBefore"]
    lines = facts(
        [
            ("host", host["hostname"]),
            ("status", f"{host['status']}, since {host['since'] or '?'}"),
            ("connected", host["connected"]),
            ("last error", host["lastError"]),
            ("domain ban", host.get("domainBan")),
            ("tier", f"{host['tier']}{_OF_HOST if host['tierOverride'] else ' (by its name)'}"),
            ("accounts", f"{host['accounts']:,} of {host['accountLimit']:,}{limit}"),
            ("waiting for room", f"{host['throttledAccounts']:,} of them" if host["throttledAccounts"] else None),
            ("events", _rates(host)),
            ("mode", host["mode"] or "as configured"),
            ("cursor", None if host["cursor"] is None else str(host["cursor"])),
            ("earlier cursor", None if before is None else f"{before}, given up at restart {host['epoch']}"),
            ("epoch", host["epoch"] or None),
            ("catching up", f"{span(host['catchingUpSeconds'])} behind" if host["catchingUpSeconds"] else None),
            ("possible gap", f"{gap}, {host['possibleGapAt'] or '?'}" if gap else None),
            ("first seen", host["firstSeen"]),
            ("last event", host["lastEvent"]),
            ("accepted", host["accepted"]),
            ("dropped", host["dropped"]),
            ("remarks", host["remarks"]),
        ],
        width,
    )
    return [*lines, *_drop_lines(host.get("lastDrops", []), width, of_host=True)]


def _rates(host: Any) -> str:
    limits, overrides = host["limits"], host["rateOverrides"]
    return ", ".join(f"{limits[key]:,} {word}{_OF_HOST if name in overrides else ''}" for key, name, word in _RATES)


def _drop_lines(drops: list[Any], width: int | None, *, of_host: bool = False) -> list[str]:
    """Last drops; an account's own DID is above them already."""
    if not drops:
        return []
    columns = [Column("LAST DROPS", rank=1), Column("REASON")]
    rows = [[each["time"], each["reason"]] for each in drops]
    if of_host:
        columns.append(Column("ACCOUNT", chars_min=32))
        rows = [[*row, each["did"]] for row, each in zip(rows, drops, strict=True)]
    return ["", *table(columns, rows, width, Column("DETAIL"), [each["detail"] for each in drops])]


def account_table(accounts: list[Any], width: int | None) -> list[str]:
    """Accounts, one a line."""
    columns = (
        Column("DID", chars_min=32),
        Column("ACTIVE"),
        Column("STATUS", rank=3),
        Column("HERE", rank=1),
        Column("AT ITS HOST", rank=2),
        Column("REV"),
    )
    rows = [
        (each["did"], each["active"], each["status"], each["localStatus"], each["upstreamStatus"], each["rev"])
        for each in accounts
    ]
    return table(columns, rows, width)


def account_facts(account: Any, width: int | None) -> list[str]:
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
            ("purge", _purge((account["takedown"] or {}).get("purged"))),
        ],
        width,
    )
    return [*lines, *_drop_lines(account["lastDrops"], width)]


def _purge(purged: Any) -> str | None:
    """How far it is, in words."""
    if purged is None:
        return None
    if purged["finished"]:
        return f"done {purged['finished']}, {purged['frames']:,} frames replaced"
    if purged["segments"]:
        return f"segment {purged['segmentsDone']:,} of {purged['segments']:,} is done"
    return "begins in a moment"


def ban_table(answer: Any, width: int | None) -> list[str]:
    """Domain bans, one a line."""
    columns = (Column("DOMAIN", chars_min=20), Column("SINCE"), Column("HOSTS", is_number=True))
    return table(columns, [(each["domain"], each["since"], each["hosts"]) for each in answer["bans"]], width)


def consumer_table(consumers: list[Any], width: int | None) -> list[str]:
    """Consumers, one a line."""
    columns = (
        Column("ID", is_number=True),
        Column("ADDRESS", chars_min=15),
        Column("CONNECTED", is_number=True, rank=1),
        Column("EVENTS", is_number=True, rank=2),
        Column("LAG S", is_number=True),
        Column("WORKER", is_number=True, rank=3),
        Column("USER AGENT", chars_min=20),
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
    return table(columns, rows, width)
