"""Kinds of configuration values: what each allows, in words, and how it is read from TOML and from the environment.

Owns types, ranges and their wording. Does not know any key. A kind raises `ValueError` without a message: the caller
knows the key and says what is `allowed`.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB|TiB)")
_AUTO = "auto"


class Address(NamedTuple):
    """Where to listen: an IP address or name without brackets, and a port (0: any free one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Kind(Protocol):
    """One kind of value."""

    @property
    def allowed(self) -> str:
        """What is allowed, in words that end a sentence beginning with "takes"."""

    def read(self, value: Any) -> Any:
        """The setting for a value of the configuration file. Raises ValueError."""

    def read_text(self, text: str) -> Any:
        """The setting for the text of an environment variable. Raises ValueError."""

    def show(self, setting: Any) -> str:
        """The setting as the configuration file would have it."""


@dataclass(frozen=True)
class Text:
    """A string that `check` accepts; an empty one always when `empty`."""

    allowed: str
    check: Callable[[str], bool] = lambda _text: True
    empty: bool = True

    def read(self, value: Any) -> str:
        """As `Kind.read`."""
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError
        if not (self.check(value) if value else self.empty):
            raise ValueError
        return value

    read_text = read

    def show(self, setting: str) -> str:
        """As `Kind.show`."""
        return '"' + setting.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """As `Kind.allowed`."""
        return "one of " + ", ".join(f'"{word}"' for word in self.words)

    def read(self, value: Any) -> str:
        """As `Kind.read`."""
        if value not in self.words:
            raise ValueError
        return str(value)

    read_text = read

    def show(self, setting: str) -> str:
        """As `Kind.show`."""
        return f'"{setting}"'


@dataclass(frozen=True)
class Boolean:
    """Yes or no."""

    allowed: str = "true or false"

    def read(self, value: Any) -> bool:
        """As `Kind.read`."""
        if not isinstance(value, bool):
            raise ValueError  # noqa: TRY004 -- the one error of a kind
        return value

    def read_text(self, text: str) -> bool:
        """As `Kind.read_text`; 1 and 0 are understood too."""
        if text.lower() not in ("true", "1", "false", "0"):
            raise ValueError
        return text.lower() in ("true", "1")

    def show(self, setting: bool) -> str:
        """As `Kind.show`."""
        return "true" if setting else "false"


@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`; with `auto` also the word "auto", which reads as None."""

    low: int
    high: int
    auto: bool = False

    @property
    def allowed(self) -> str:
        """As `Kind.allowed`."""
        return f"a whole number from {self.low} to {self.high}" + (' or "auto"' if self.auto else "")

    def read(self, value: Any) -> int | None:
        """As `Kind.read`."""
        if self.auto and value == _AUTO:
            return None
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError
        return value

    def read_text(self, text: str) -> int | None:
        """As `Kind.read_text`."""
        return self.read(_AUTO if text == _AUTO else int(text))

    def show(self, setting: int | None) -> str:
        """As `Kind.show`."""
        return f'"{_AUTO}"' if setting is None else str(setting)


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`, whole or not."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        """As `Kind.allowed`."""
        return f"a number from {self.low:g} to {self.high:.15g}"

    def read(self, value: Any) -> float:
        """As `Kind.read`. Not a number is outside of every range."""
        if type(value) not in (int, float) or not self.low <= value <= self.high:
            raise ValueError
        return float(value)

    def read_text(self, text: str) -> float:
        """As `Kind.read_text`."""
        return self.read(float(text))

    def show(self, setting: float) -> str:
        """As `Kind.show`."""
        return f"{setting:.15g}"


@dataclass(frozen=True)
class Size:
    """Bytes, as a whole number or as text with a binary unit; `zero` is allowed beside the range when set."""

    low: int
    high: int
    zero: bool = False

    @property
    def allowed(self) -> str:
        """As `Kind.allowed`."""
        none = "0 or " if self.zero else ""
        return f'{none}a size from {_size_text(self.low)} to {_size_text(self.high)}, such as 1048576 or "1MiB"'

    def read(self, value: Any) -> int:
        """As `Kind.read`."""
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            if match is None:
                raise ValueError
            value = int(float(match[1]) * _UNITS[match[2]])
        if type(value) is not int or not (self.low <= value <= self.high or (self.zero and value == 0)):
            raise ValueError
        return value

    def read_text(self, text: str) -> int:
        """As `Kind.read_text`."""
        return self.read(int(text) if text.isdecimal() else text)

    def show(self, setting: int) -> str:
        """As `Kind.show`."""
        text = _size_text(setting)
        return text if text.isdecimal() else f'"{text}"'


@dataclass(frozen=True)
class Listen:
    """An address to listen on, or nothing when `empty`."""

    empty: bool = False

    @property
    def allowed(self) -> str:
        """As `Kind.allowed`."""
        return 'an address and port such as "127.0.0.1:2470" or "[::]:2470"' + (", or nothing" if self.empty else "")

    def read(self, value: Any) -> Address | None:
        """As `Kind.read`."""
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004 -- the one error of a kind
        if not value and self.empty:
            return None
        host, _, port = value.rpartition(":")
        if not port.isdecimal() or int(port) > 65_535:
            raise ValueError
        if host.startswith("[") and host.endswith("]"):
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        if not re.fullmatch(r"[A-Za-z0-9.-]+", host):
            raise ValueError
        return Address(host, int(port))

    read_text = read

    def show(self, setting: Address | None) -> str:
        """As `Kind.show`."""
        return f'"{setting}"' if setting else '""'


@dataclass(frozen=True)
class ListOf:
    """A list of texts that `check` accepts; comma-separated in the environment, where no text is no item."""

    allowed: str
    check: Callable[[str], bool] = lambda _text: True

    def read(self, value: Any) -> tuple[str, ...]:
        """As `Kind.read`. An item twice counts once."""
        if not isinstance(value, list | tuple):
            raise ValueError  # noqa: TRY004 -- the one error of a kind
        if any(not isinstance(item, str) or not item or not self.check(item) for item in value):
            raise ValueError
        return tuple(dict.fromkeys(value))

    def read_text(self, text: str) -> tuple[str, ...]:
        """As `Kind.read_text`."""
        return self.read([item.strip() for item in text.split(",")] if text.strip() else [])

    def show(self, setting: tuple[str, ...]) -> str:
        """As `Kind.show`."""
        return "[" + ", ".join(f'"{item}"' for item in setting) + "]"


def is_http_url(text: str) -> bool:
    """Whether `text` is an http or https URL of a host, without user, query or fragment."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.username or parts.query or parts.fragment or " " in text)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and port != 0


def is_host_or_url(text: str) -> bool:
    """Whether `text` is `host`, `host:port` or an http or https URL of one."""
    return is_http_url(text) or (
        ":" not in text.partition(":")[2] and is_http_url(f"https://{text}") and "/" not in text
    )


def is_host_glob(text: str) -> bool:
    """Whether `text` is a hostname in which `*` stands for anything."""
    return re.fullmatch(r"[A-Za-z0-9.*:_-]+", text) is not None


def is_network(text: str) -> bool:
    """Whether `text` is an IP address or a network such as 10.0.0.0/8."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _size_text(size: int) -> str:
    for unit, factor in reversed(_UNITS.items()):
        if size and factor > 1 and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
