"""Reads the configuration, TOML file then environment, into `RelaySettings`; every problem is named, none guessed away.

Owns precedence (environment, file, default), the wording of problems and the few defaults that depend on other keys.
Does not own keys and ranges (`relay.app.keys`) nor machine checks (`relay.app.check`).
"""

import dataclasses
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from relay.app.keys import KEYS, SECRETS, TIER_KEYS, Key, TierKey
from relay.app.kinds import Kind
from relay.app.settings import ListenSettings, LoggingSettings, RelaySettings, WorkerCounts
from relay.crawl.settings import TRUSTED_DEFAULTS, HostSettings, TierSettings
from relay.identity.settings import IdentitySettings
from relay.ingest.settings import IngestSettings
from relay.serve.settings import ConsumerSettings, HttpSettings
from relay.store.settings import LogSettings

DEFAULT_FILE = Path("config/relay.toml")
WORKERS_MAX_BY_CORES = 8
_TIERS = "hosts.tiers."
_TIER_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TIER_NAME_ALLOWED = "a lower-case letter, then at most 31 lower-case letters, digits and underscores"
# A Kubernetes service called "relay" puts these into every pod beside it; they are nobody's typing error.
_FOREIGN = re.compile(r"RELAY_(SERVICE_(HOST|PORT.*)|PORT(_\d+_.*)?)")


class ConfigError(Exception):
    """The configuration cannot be used. `problems` are lines for people, each naming the key and what is allowed."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Given(NamedTuple):
    """A value somebody gave, and where: for messages, and for `relay check`."""

    value: Any
    source: str
    is_text: bool  # from the environment, where everything is text


def load(
    file: Path | None = None, environ: Mapping[str, str] | None = None, *, cores: int | None = None
) -> RelaySettings:
    """The effective settings. Raises ConfigError with all problems found.

    `file` None means `config/relay.toml`, which may be absent; a file that was named must exist. `environ` and `cores`
    are those of this process unless given.
    """
    problems: list[str] = []
    environ = os.environ if environ is None else environ
    given = {**_from_file(file, problems), **_from_environ(environ, problems)}
    values: dict[str, Any] = {}
    for key in KEYS:
        _take(key.place, key.kind, given.pop(key.name, None), values, problems, name=key.name)
    tiers = _tiers(given, problems)
    problems += {_stray(name, item) for name, item in given.items()}
    secrets = {secret.name: _secret(secret.variable, secret.file_variable, environ, problems) for secret in SECRETS}
    if problems:
        raise ConfigError(*sorted(problems))
    return _compose(values | secrets, tiers, cores or usable_cores())


def file_read(file: Path | None = None) -> Path | None:
    """The file that `load` reads for `file`, absolute; None when it goes by the environment and defaults alone."""
    path = file or DEFAULT_FILE
    return path.absolute() if path.exists() else None


def usable_cores() -> int:
    """Cores this process may run on; all of them where the system cannot say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _from_file(file: Path | None, problems: list[str]) -> dict[str, Given]:
    path = file or DEFAULT_FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if file is not None:
            problems.append(f"{path}: there is no such file")
        return {}
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
        return {}
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path}: cannot be read as TOML: {error}")
        return {}
    return {name: Given(value, str(path), is_text=False) for name, value in _leaves(document, "")}


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _from_environ(environ: Mapping[str, str], problems: list[str]) -> dict[str, Given]:
    names = {key.variable: key.name for key in KEYS}
    secret = {name for item in SECRETS for name in (item.variable, item.file_variable)}
    found: dict[str, Given] = {}
    for variable, text in environ.items():
        if not variable.startswith("RELAY_") or variable in secret or _FOREIGN.fullmatch(variable):
            continue
        name = names.get(variable) or _tier_variable(variable)
        if name is None:
            problems.append(f"{variable}: there is no such key (from the environment)")
        else:
            found[name] = Given(text, variable, is_text=True)
    return found


def _tier_variable(variable: str) -> str | None:
    """`hosts.tiers.gold.per_day` for RELAY_HOSTS_TIERS_GOLD_PER_DAY."""
    rest = variable.removeprefix("RELAY_HOSTS_TIERS_").lower()
    for key in TIER_KEYS:
        if rest.endswith(f"_{key.field}") and not variable.endswith(rest):
            return f"{_TIERS}{rest.removesuffix(f'_{key.field}')}.{key.field}"
    return None


def _take(
    place: str, kind: Kind, item: Given | None, values: dict[str, Any], problems: list[str], *, name: str = ""
) -> None:
    """Put what `item` says into `values`, or a line into `problems`; nothing when nothing was given."""
    if item is None:
        return
    try:
        values[place] = kind.read_text(item.value) if item.is_text else kind.read(item.value)
    except ValueError:
        problems.append(f"{name or place}: takes {kind.allowed}, not {item.value!r} (from {item.source})")


def _tiers(given: dict[str, Given], problems: list[str]) -> dict[str, dict[str, Any]]:
    """The tiers that were spoken of, by name; what belongs to them is taken out of `given`."""
    fields: dict[str, TierKey] = {key.field: key for key in TIER_KEYS}
    tiers: dict[str, dict[str, Any]] = {}
    for name in [name for name in given if name.startswith(_TIERS)]:
        tier, _, field = name.removeprefix(_TIERS).rpartition(".")
        if field in fields and _TIER_NAME.fullmatch(tier):
            found: dict[str, Any] = {}
            _take(field, fields[field].kind, given.pop(name), found, problems, name=name)
            tiers.setdefault(tier, {}).update(found)
    return tiers


def _stray(name: str, item: Given) -> str:
    """What is wrong with `name`, which is no key: it may be a table, or belong to a tier that cannot be called so."""
    tier, _, field = name.removeprefix(_TIERS).rpartition(".") if name.startswith(_TIERS) else ("", "", "")
    if tier and field in {key.field for key in TIER_KEYS}:
        return f"{_TIERS}{tier}: the name of a tier takes {_TIER_NAME_ALLOWED} (from {item.source})"
    is_tier = bool(field) and not tier
    if is_tier or any(key.name.startswith(f"{name}.") for key in KEYS) or f"{name}." == _TIERS:
        return f"{name}: takes a table, [{name}], not {item.value!r} (from {item.source})"
    return f"{name}: there is no such key (from {item.source})"


def _secret(variable: str, file_variable: str, environ: Mapping[str, str], problems: list[str]) -> str:
    """The secret, or "" when there is none. Its text is never part of a problem."""
    value, path = environ.get(variable), environ.get(file_variable)
    if value is not None and path is not None:
        problems.append(f"{variable}: give it or {file_variable}, not both")
    if path is None:
        return value or ""
    try:
        return Path(path).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{file_variable}: takes the path of a readable file: {error}")
        return ""


def _compose(values: dict[str, Any], tiers: dict[str, dict[str, Any]], cores: int) -> RelaySettings:
    """Settings from values by place; defaults where nothing was given, and those that follow from other keys."""
    sections: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    for place, value in values.items():
        section, _, field = place.rpartition(".")
        (sections.setdefault(section, {}) if section else plain)[field] = value
    hosts = _hosts(sections.get("hosts", {}), tiers)
    counts = WorkerCounts(**sections.get("workers", {}))
    by_cores = max(1, min(WORKERS_MAX_BY_CORES, cores // 2))
    if "data_dir" in plain:
        plain["data_dir"] = Path(plain["data_dir"])
    return RelaySettings(
        listen=ListenSettings(**sections.get("listen", {})),
        workers=WorkerCounts(ingest=counts.ingest or by_cores, serve=counts.serve or by_cores),
        identity=IdentitySettings(**sections.get("identity", {})),
        hosts=hosts,
        log=LogSettings(**sections.get("log", {})),
        ingest=IngestSettings(**sections.get("ingest", {})),
        consumers=ConsumerSettings(**sections.get("consumers", {})),
        http=HttpSettings(**sections.get("http", {})),
        logging=LoggingSettings(**sections.get("logging", {})),
        **plain,
    )


def _hosts(section: dict[str, Any], tiers: dict[str, dict[str, Any]]) -> HostSettings:
    """`trusted` and `account_limit` go into the two tiers everybody has, where a tier's own keys win over them."""
    if section.get("allow_private"):
        section = {"discover_from": (), **section}
    hosts = HostSettings(**section)
    built = {
        "default": TierSettings(account_limit=hosts.account_limit),
        "trusted": dataclasses.replace(TRUSTED_DEFAULTS, hosts=hosts.trusted),
    }
    for name, fields in tiers.items():
        built[name] = dataclasses.replace(built.get(name, TierSettings()), **fields)
    return dataclasses.replace(hosts, tiers=built)


def effective(settings: RelaySettings) -> Iterator[str]:
    """The settings as lines of a configuration file, every key once; secrets are starred, and commented out."""
    for key in KEYS:
        yield f"{key.name} = {key.kind.show(_shown(key, settings))}"
    for name, tier in settings.hosts.tiers.items():
        for tier_key in TIER_KEYS:
            yield f"{_TIERS}{name}.{tier_key.field} = {tier_key.kind.show(getattr(tier, tier_key.field))}"
    for secret in SECRETS:
        yield f"# {secret.name} = {'********' if getattr(settings, secret.name) else 'not set'}"


def _shown(key: Key, settings: RelaySettings) -> Any:
    value: Any = settings
    for part in key.place.split("."):
        value = getattr(value, part)
    return str(value) if isinstance(value, Path) else value
