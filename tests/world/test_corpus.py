"""Frames in bulk: the shape of the real network's commits, and the file format of recordings."""

from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from relay.world.corpus import frames_of_network_shape, read_frames
from tests.world.slices import read_block, read_car, read_frame


def test_frames_have_the_shape_of_the_network() -> None:
    """Mean frame near 5.5 kB, about 10 blocks, 8 to 9 of them nodes with about 40 entries (field.md)."""
    frames, documents = frames_of_network_shape(1, 1500)
    nodes: list[int] = []
    blocks: list[int] = []
    entries: list[int] = []
    for seq, frame in enumerate(frames, 1):
        payload = read_frame(frame).payload
        found = [block for _, block in read_car(payload["blocks"])[1]]
        trees = [fields for fields in map(read_block, found) if set(fields) == {"e", "l"}]
        nodes.append(len(trees))
        blocks.append(len(found))
        entries.append(sum(len(fields["e"]) for fields in trees))
        assert payload["seq"] == seq
        assert payload["repo"] in documents

    assert 4_700 < mean(map(len, frames)) < 6_300
    assert 8 <= mean(nodes) <= 9.5
    assert 9.5 <= mean(blocks) <= 12
    assert 33 <= mean(entries) <= 47


def test_one_seed_gives_one_corpus() -> None:
    first: Any = frames_of_network_shape(2, 20, accounts=1)

    assert frames_of_network_shape(2, 20, accounts=1) == first
    assert frames_of_network_shape(3, 20, accounts=1)[0] != first[0]


def test_frame_files_are_read_to_their_end(tmp_path: Path) -> None:
    """A length of four bytes before each message; a file that ends inside either raises."""
    path = tmp_path / "some.frames"
    path.write_bytes(bytes(4) + b"\0\0\0\1a" + b"\0\1\x11\x70" + bytes(70_000))

    assert list(read_frames(path)) == [b"", b"a", bytes(70_000)]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EOFError):
        list(read_frames(path))
    path.write_bytes(b"\0\0")
    with pytest.raises(EOFError):
        list(read_frames(path))
