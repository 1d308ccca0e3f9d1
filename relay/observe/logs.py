"""Structured logs on stderr: an event name plus key-values, pretty for people, one JSON object a line for machines.

Owns the set-up of structlog, the bridge from the standard library's loggers, which some dependencies use, and what of
an exception is shown: a plain traceback without local variables, which may hold secrets or whole payloads, and bounded,
because groups nest and a message can be of any size. Does not own what is logged, nor where stderr goes. The only
module that imports structlog.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.typing import ExcInfo, FilteringBoundLogger

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "pretty", "json")
TRACEBACK_CHARS_MAX = 4_000
_TRACEBACK_END_CHARS = 3_000  # what was raised where is at the end; the beginning says on which way

Logger = FilteringBoundLogger


def get_logger(name: str, **fields: object) -> Logger:
    """A logger whose lines carry `module=name` and `fields`. Cheap; may be made at import time, before `configure`."""
    return cast("Logger", structlog.get_logger(module=name, **fields))


def configure(
    level: str = "info",
    format: str = "auto",  # noqa: A002 -- the key is called logging.format
    *,
    stream: TextIO | None = None,
    **fields: object,
) -> None:
    """Set up logging of this process; the last call wins.

    `level` is one of LEVELS, `format` one of FORMATS, where "auto" is pretty on a terminal and JSON elsewhere. `fields`
    (role, worker) are on every line. Raises ValueError for anything else.
    """
    if level not in LEVELS or format not in FORMATS:
        raise ValueError(f"logging takes levels {LEVELS} and formats {FORMATS}, not {level!r} and {format!r}")
    out = sys.stderr if stream is None else stream
    pretty = format == "pretty" or (format == "auto" and out.isatty())
    threshold = getattr(logging, level.upper())
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            _constant_fields(fields),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.ExceptionRenderer(_bounded_traceback),
            _pretty_renderer(colors=out.isatty()) if pretty else _render_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[StandardLibraryBridge()], level=max(threshold, logging.WARNING), force=True)


def _constant_fields(fields: MutableMapping[str, Any]) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in fields.items():
            event.setdefault(name, value)
        return event

    return add


def _bounded_traceback(exc_info: ExcInfo) -> str:
    """The traceback as text of at most `TRACEBACK_CHARS_MAX` and a line; from the middle of a longer one it is cut."""
    text = "".join(traceback.format_exception(*exc_info)).rstrip("\n")
    if len(text) <= TRACEBACK_CHARS_MAX:
        return text
    left_out = len(text) - TRACEBACK_CHARS_MAX
    start = text[: TRACEBACK_CHARS_MAX - _TRACEBACK_END_CHARS]
    return f"{start}\n... {left_out} characters left out ...\n{text[-_TRACEBACK_END_CHARS:]}"


def _pretty_renderer(*, colors: bool) -> structlog.typing.Processor:
    """The plain formatter is named because the default depends on whether `rich` happens to be installed."""
    return structlog.dev.ConsoleRenderer(
        colors=colors, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """One line, `time`, `level` and `event` first; a value JSON does not know is shown as its repr."""
    first = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
    return msgspec.json.encode({**first, **event}, enc_hook=repr).decode()


class StandardLibraryBridge(logging.Handler):
    """Passes warnings of libraries that use the standard library's logging on to our log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log `record` once more, under the name of the library's logger."""
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] is not None else None
        extra: dict[str, Any] = {"exc_info": exc_info} if exc_info else {}
        get_logger(record.name).log(record.levelno, record.getMessage(), **extra)
