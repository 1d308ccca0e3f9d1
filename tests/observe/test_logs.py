"""What a log line looks like, to people and to machines."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from relay.observe import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logs.configure()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_off_a_terminal_each_line_is_one_json_object() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, role="serve", worker=1)

    logs.get_logger("consumer").info("consumer_connected", cursor=7, note="two\nlines")

    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "consumer_connected",
        "module": "consumer",
        "cursor": 7,
        "note": "two\nlines",
        "role": "serve",
        "worker": 1,
    }


def test_on_a_terminal_lines_are_for_people() -> None:
    stream = Terminal()
    logs.configure(stream=stream)

    logs.get_logger("consumer").info("consumer_connected", cursor=7)

    assert "consumer_connected" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_format_json_wins_over_a_terminal() -> None:
    stream = Terminal()
    logs.configure(format="json", stream=stream)

    logs.get_logger("x").info("y")

    assert lines(stream)[0]["event"] == "y"


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    logs.configure("warning", stream=stream)

    logs.get_logger("x").info("quiet")
    logs.get_logger("x").warning("loud")

    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_logger_made_before_configure_follows_it() -> None:
    early = logs.get_logger("early")
    stream = io.StringIO()
    logs.configure(stream=stream)

    early.info("heard")

    assert lines(stream)[0]["module"] == "early"


def test_an_exception_is_one_line_with_its_traceback() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)

    try:
        int("seven")
    except ValueError:
        logs.get_logger("x").exception("failed")

    (line,) = lines(stream)
    assert "ValueError: invalid literal" in line["exception"]


def test_what_json_does_not_know_is_shown_as_its_repr() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)

    logs.get_logger("x").info("y", thing=1j)

    assert lines(stream)[0]["thing"] == "1j"


def test_warnings_of_libraries_come_the_same_way() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)

    logging.getLogger("trio-websocket").warning("odd %s", "frame")
    logging.getLogger("trio-websocket").info("not interesting")

    (line,) = lines(stream)
    assert (line["module"], line["level"], line["event"]) == ("trio-websocket", "warning", "odd frame")


@pytest.mark.parametrize(("level", "form"), [("loud", "auto"), ("info", "xml")])
def test_unknown_words_are_refused(level: str, form: str) -> None:
    with pytest.raises(ValueError, match="logging takes"):
        logs.configure(level, form)


def nested_failure(depth: int) -> Exception:
    """A group within groups, each raised beside a local that must not be seen."""
    inner = [nested_failure(depth - 1), nested_failure(depth - 1)] if depth else [ValueError("the leaf")]
    return raised(ExceptionGroup("nested", inner))


def raised(error: Exception) -> Exception:
    """The same with a traceback, in whose frame there is a secret."""
    password = "hunter" + "2"  # noqa: F841 -- what a traceback with locals would show
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


@pytest.mark.parametrize("form", ["pretty", "json"])
@pytest.mark.parametrize(
    "error", [nested_failure(6), raised(ValueError("x" * 1_000_000 + " the leaf"))], ids=["deep", "wide"]
)
def test_a_failure_is_bounded_and_shows_no_local_variables(form: str, error: Exception) -> None:
    stream = Terminal()
    logs.configure(format=form, stream=stream)

    for _ in range(10):
        logs.get_logger("worker").error("worker_failed", exc_info=error)

    text = stream.getvalue()
    assert text.count("the leaf") >= 10
    assert text.count("characters left out") == 10
    assert len(text) <= 10 * (logs.TRACEBACK_CHARS_MAX + 1_000)
    assert len(text.splitlines()) <= 10 * 100
    assert "hunter2" not in text
    assert "password" not in text
