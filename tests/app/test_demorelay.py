"""What a demonstration needs before it can begin: a folder that is its own, and ports."""

import socket
from pathlib import Path

import pytest

from relay.app.config import ConfigError
from relay.app.demorelay import free_port, make_folder


def listener() -> socket.socket:
    """As the relay listens."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", 0))
    made.listen()
    return made


def port_of(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


def test_a_port_on_which_somebody_listens_is_not_free() -> None:
    with listener() as other:
        assert free_port(port_of(other)) != port_of(other)


def test_a_port_whose_last_connections_just_ended_is_free() -> None:
    """As after a demo that ended a moment ago."""
    with listener() as earlier:
        port = port_of(earlier)
        with socket.create_connection(("127.0.0.1", port)) as client:
            earlier.accept()[0].close()  # who closes first keeps the port, in TIME_WAIT
            client.recv(1)

    assert free_port(port) == port


def test_a_folder_is_made_for_the_data_to_keep(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "new" / "demo").is_dir()
    (tmp_path / "notes.txt").touch()
    assert make_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["relay.toml", "relay.log", "data"])
def test_what_an_earlier_demo_left_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("as it was")

    with pytest.raises(ConfigError, match=f"--keep: {tmp_path} holds the data of a demo already"):
        make_folder(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "as it was"


def test_a_folder_is_had_once(tmp_path: Path) -> None:
    make_folder(tmp_path)

    with pytest.raises(ConfigError, match="already"):
        make_folder(tmp_path)


@pytest.mark.parametrize("below", ["", "demo"])
def test_a_folder_that_cannot_be_made_is_a_problem_of_the_call(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(ConfigError, match=f"^--keep: {file / below} cannot be used: "):
        make_folder(file / below)
