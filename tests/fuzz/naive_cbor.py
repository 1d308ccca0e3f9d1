"""A second reader of strict DAG-CBOR, slow and independent, and a maker of input that is nearly valid.

Written from protocol.md section 6 alone, without a codec, for the sake of comparing `relay.protocol.cbor` with it.
"""

import random
from typing import Any

from relay.protocol.cbor import Link

CID = b"\x01\x71\x12\x20" + bytes(range(32))


class RefusedError(Exception):
    """Not strict DAG-CBOR of the atproto data model."""


def read_all(data: bytes) -> Any:
    """The value of exactly one item."""
    value, end = read(data, 0, 0)
    if end != len(data):
        raise RefusedError
    return value


def read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """One item inside `depth` containers, and where it ends."""
    major, number, at = read_head(data, at)
    if major in (0, 1):
        value = number if major == 0 else -1 - number
        if not -(2**63) <= value < 2**63:
            raise RefusedError
        return value, at
    if major in (2, 3):
        return read_string(data, major, number, at)
    if major == 7:
        constants = {20: False, 21: True, 22: None}
        if number not in constants:
            raise RefusedError
        return constants[number], at
    if major == 6:
        return read_link(data, number, at)
    if depth == 32:
        raise RefusedError
    return read_array(data, number, at, depth) if major == 4 else read_map(data, number, at, depth)


def read_string(data: bytes, major: int, length: int, at: int) -> tuple[bytes | str, int]:
    content = data[at : at + length]
    if len(content) != length:
        raise RefusedError
    try:
        return content if major == 2 else content.decode(), at + length
    except UnicodeDecodeError as error:
        raise RefusedError from error


def read_head(data: bytes, at: int) -> tuple[int, int, int]:
    if at >= len(data):
        raise RefusedError
    major, number = divmod(data[at], 32)
    at += 1
    if number < 24:
        return major, number, at
    width = {24: 1, 25: 2, 26: 4, 27: 8}.get(number)
    if width is None or major == 7 or at + width > len(data):
        raise RefusedError
    number = int.from_bytes(data[at : at + width], "big")
    if number < {1: 24, 2: 2**8, 4: 2**16, 8: 2**32}[width]:
        raise RefusedError
    return major, number, at + width


def read_link(data: bytes, tag: int, at: int) -> tuple[Any, int]:
    content, end = read(data, at, 0) if tag == 42 and at < len(data) and data[at] // 32 == 2 else (b"", 0)
    if len(content) != 37 or content[:5] not in (b"\0\x01\x71\x12\x20", b"\0\x01\x55\x12\x20"):
        raise RefusedError
    return Link(content[1:]), end


def read_array(data: bytes, count: int, at: int, depth: int) -> tuple[Any, int]:
    items = []
    for _ in range(count):
        item, at = read(data, at, depth + 1)
        items.append(item)
    return items, at


def read_map(data: bytes, count: int, at: int, depth: int) -> tuple[Any, int]:
    pairs = {}
    last = (-1, b"")
    for _ in range(count):
        key, at = read(data, at, depth + 1)
        if type(key) is not str or (len(key.encode()), key.encode()) <= last:
            raise RefusedError
        last = (len(key.encode()), key.encode())
        pairs[key], at = read(data, at, depth + 1)
    return pairs, at


STRINGS = [
    b"",
    b"a",
    b"key",
    b"\xc3\xa9",
    CID,
    b"\x12\x20" + bytes(32),
    b"\0" + CID,
    b"\x01\x71\0\0",
    b"x" * 40,
    CID + b"\0",
]
BAD_STRINGS = [b"\xff", b"\xed\xa0\x80", b"\xc0\x80"]
NUMBERS = [0, 1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1]


def make(rng: random.Random, flaws: float, depth: int = 0) -> bytes:
    """A random item; `flaws` is the chance that any one choice in it is not as it should be."""
    flawed = rng.random() < flaws
    kind = rng.choice("iistbbkcaamm" if depth < 4 else "iistbbkc")
    if kind == "i":
        return head(rng, flaws, rng.choice([0, 1]), 2**64 - 1 if flawed else rng.choice(NUMBERS))
    if kind in "st":
        text = rng.choice(BAD_STRINGS) if flawed else rng.choice(STRINGS[:4])
        return head(rng, flaws, 3, len(text)) + text
    if kind == "b":
        content = rng.choice(STRINGS)
        return head(rng, flaws, 2, len(content) + flawed) + content
    if kind == "k":
        content = rng.choice(STRINGS) if flawed else b"\0" + rng.choice([CID, b"\x01\x55" + CID[2:]])
        return head(rng, flaws, 6, 43 if rng.random() < flaws else 42) + head(rng, flaws, 2, len(content)) + content
    if kind == "c":
        return (
            rng.choice([b"\xf7", b"\xf9\0\0", b"\xfb\x3f" + bytes(7), b"\xff"])
            if flawed
            else rng.choice([b"\xf4", b"\xf5", b"\xf6"])
        )
    count = rng.randrange(5)
    if kind == "a":
        return head(rng, flaws, 4, count + flawed) + b"".join(make(rng, flaws, depth + 1) for _ in range(count))
    keys = sorted(
        {rng.choice(["", "a", "b", "é", "seq", "aa", "ops", "x" * 30]).encode() for _ in range(count)},
        key=lambda k: (len(k), k),
    )
    if flawed:
        rng.shuffle(keys)
        keys += keys[:1]
    return head(rng, flaws, 5, len(keys)) + b"".join(
        head(rng, flaws, 3, len(key)) + key + make(rng, flaws, depth + 1) for key in keys
    )


def head(rng: random.Random, flaws: float, major: int, number: int) -> bytes:
    """Type and number of an item, sometimes in more bytes than needed."""
    widths = [width for width in (0, 1, 2, 4, 8) if number < (24 if width == 0 else 1 << (8 * width))]
    width = rng.choice(widths) if rng.random() < flaws else widths[0]
    if width == 0:
        return bytes([major << 5 | number])
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + number.to_bytes(width, "big")


def mutate(rng: random.Random, data: bytes) -> bytes:
    """`data` with one small change: a bit, a byte, a piece removed, doubled or moved."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice([1, 1, 2, 4, 9, 40]))
    change = rng.randrange(5)
    if change == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if change == 1:
        return data[:at] + bytes([rng.randrange(256)]) + data[at:]
    if change == 2:
        return data[:at] + data[end:]
    if change == 3:
        return data[:end] + data[at:]
    other = rng.randrange(len(data) + 1)
    return data[:other] + data[at:end] + data[other:]
