"""Strict DAG-CBOR as the atproto data model has it (protocol.md section 6); the only module that imports a CBOR codec.

Values are `dict` with `str` keys, `list`, `str`, `bytes`, `int`, `bool`, `None`, and `Link` for tag 42. `decode`
accepts exactly the bytes that `encode` writes: shortest forms, sorted keys, definite lengths, no floats, signed 64-bit
integers, tag 42 only and only around a CID of 36 bytes.

libipld does the work, being four times faster than cbor2. It rejects most of what is not canonical; what it lets
through is closed here:

- integers and lengths that are not shortest: the value encoded again must equal the input;
- floats, integers beyond signed 64 bit, nesting: `_settle_items` looks at every value;
- links and byte strings both arrive as `bytes`, and the encoder makes a link of any bytes that parse as a CID. So
  equality also tells the two apart: a byte string that looks like a CID comes out longer than it came in. Such input
  is then read by cbor2, which keeps them apart. cbor2 never sees input that libipld has not accepted, so its own tags
  (shared references above all, with which a few bytes make a value of any size) cannot reach it.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import cbor2
import libipld

from relay.protocol import limits
from relay.protocol.cid import CID_BYTES, DAG_CBOR_PREFIX, RAW_PREFIX
from relay.protocol.errors import CborError

_LINK_TAG = 42
_LINK_PREFIXES = (DAG_CBOR_PREFIX, RAW_PREFIX)
_TAGGED_PREFIXES = (b"\0" + DAG_CBOR_PREFIX, b"\0" + RAW_PREFIX)
_CID_STARTS = (b"\x01", b"\x12")  # the first byte of any CID: version 1, or the bare SHA-256 multihash of version 0
_SMALL_BYTES = 65_536  # input this small is decoded without counting its items first; a decoded item takes <= 64 bytes


class Link(bytes):
    """The 36 bytes of a CID that stood in tag 42; in all other respects `bytes`."""

    __slots__ = ()


def decode(data: bytes, *, wide: str | None = None) -> Any:
    """The value of exactly one item. `wide` names a key of the outermost map that may be any unsigned 64-bit integer.

    Raises `CborError`.
    """
    value, is_canonical = _read(data)
    if is_canonical:
        return _settle(value, _link_or_bytes, wide)
    return _settle(_read_ambiguous(data), _bytes_only, wide)


def decode_fast(data: bytes) -> Any:
    """The value of one item whose schema the caller checks completely, for MST nodes. Links come as plain `bytes`.

    It may still hold floats and integers of any size, and links of any kind, which the caller's types and prefixes must
    exclude. A byte string that parses as a CID is refused, so the schema must not allow one anywhere; where it might
    (signatures, unknown keys), use `decode`. Raises `CborError`.
    """
    value, is_canonical = _read(data)
    if not is_canonical:
        raise CborError("not the canonical form")
    return value


def encode_fast(value: Any) -> bytes:
    """The inverse of `decode_fast`: every byte string that parses as a CID, of whatever kind, becomes a link."""
    encoded: bytes = libipld.encode_dag_cbor(value)
    return encoded


def encode(value: Any) -> bytes:
    """Canonical bytes of a value. Raises `CborError` for what the data model does not have."""
    return _writer_of(value)(value)


def encode_around(fields: dict[str, Any], key: str) -> tuple[bytes, bytes]:
    """Canonical bytes of `fields`, cut open where the value of `key` is: what comes before it, and after it.

    `key` need not be in `fields`, and what it holds there does not matter. Raises as `encode` does.
    """
    fields = {**fields, key: 0}
    write = _writer_of(fields)
    # Keys sort by their length in bytes first, so a key with more characters than `key` has bytes comes behind it.
    name = key.encode()
    rank = (len(name), name)
    shorter = [other for other in fields if len(other) <= rank[0]]
    before = {other: fields[other] for other in shorter if (len(coded := other.encode()), coded) <= rank}
    # A map is its head and its pairs, so the pairs up to this one are as long as those of a map that has no more.
    cut = _head_bytes(len(fields)) + len(write(before)) - _head_bytes(len(before))
    whole = write(fields)
    return whole[: cut - 1], whole[cut:]


def item_end(data: bytes, start: int = 0) -> int:
    """Where the item at `start` ends, by its structure alone. Raises `CborError` if cut short or of too many items.

    Declared lengths and counts cost nothing here: it never recurses, and stops at the end of `data` or at
    `CBOR_ITEMS_MAX` items, whichever comes first.
    """
    size = len(data)
    at = start
    items = 0
    left = 1
    while left:
        items += 1
        if at >= size or items > limits.CBOR_ITEMS_MAX:
            raise CborError("cut short" if at >= size else "too many items")
        major, count = data[at] >> 5, data[at] & 31
        at += 1
        if count > 27:
            raise CborError("an indefinite or reserved length")
        if count > 23:
            width = 1 << (count - 24)
            count = int.from_bytes(data[at : at + width], "big")
            at += width
        if major in (2, 3):
            at += count
        # An array has `count` items to follow, a map two for each pair, a tag one.
        left += (-1, -1, -1, -1, count - 1, 2 * count - 1, 0, -1)[major]
        if at > size:
            raise CborError("cut short")
    return at


def _read(data: bytes) -> tuple[Any, bool]:
    """The value as libipld has it, and whether it encodes to the same bytes again."""
    if len(data) > _SMALL_BYTES and item_end(data) != len(data):
        raise CborError("more than one item")
    try:
        value = libipld.decode_dag_cbor(data)
        return value, libipld.encode_dag_cbor(value) == data
    except (ValueError, RecursionError) as error:
        raise CborError(str(error)) from error


def _read_ambiguous(data: bytes) -> Any:
    """For input that libipld accepts but does not reproduce: cbor2 tells byte strings from links."""
    try:
        value = cbor2.loads(data, tag_hook=_read_tag, max_depth=2 * limits.CBOR_NESTING_MAX)
        is_canonical = _write_slowly(value) == data
    except (cbor2.CBORError, ValueError, RecursionError) as error:
        raise CborError("not the canonical form") from error
    if not is_canonical:
        raise CborError("not the canonical form")
    return value


def _read_tag(tag: Any, _immutable: bool) -> Link:
    content = tag.value
    if tag.tag != _LINK_TAG or type(content) is not bytes:
        raise CborError("a tag that is not a link")
    if len(content) != 1 + CID_BYTES or not content.startswith(_TAGGED_PREFIXES):
        raise CborError("a link that is not CIDv1 of SHA-256 over dag-cbor or raw")
    return Link(content[1:])


def _write_link(encoder: Any, link: Link) -> None:
    encoder.encode(cbor2.CBORTag(_LINK_TAG, b"\0" + link))


def _writer_of(value: Any) -> Callable[[Any], bytes]:
    """An encoder that writes `value`, and parts of it, as what they are. Raises `CborError` if it cannot be."""
    try:
        _settle(value, _refuse_suspect)
    except _SuspectError:
        _settle(value, _bytes_only)
        return _write_slowly
    write: Callable[[Any], bytes] = libipld.encode_dag_cbor
    return write


def _write_slowly(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True, encoders={Link: _write_link})


def _head_bytes(count: int) -> int:
    """How many bytes the head of a map of `count` pairs takes."""
    return 1 if count < 24 else len(encode(count))


def _settle(value: Any, suspect: Callable[[bytes], bytes], wide: str | None = None) -> Any:
    """Refuse what the data model does not have, and let `suspect` replace every byte string that may be a CID."""
    if type(value) is dict:
        _settle_items(value, 1, suspect, wide)
        return value
    holder = [value]
    _settle_items(holder, 0, suspect)
    return holder[0]


def _settle_items(items: Any, depth: int, suspect: Callable[[bytes], bytes], wide: str | None = None) -> None:
    if depth > limits.CBOR_NESTING_MAX:
        raise CborError("nested too deeply")
    for key, value in items.items() if type(items) is dict else enumerate(items):
        kind = type(value)
        if kind is str or kind is Link or kind is bool or value is None:
            continue
        if kind is bytes:
            if value[:1] in _CID_STARTS:
                items[key] = suspect(value)
        elif kind is dict or kind is list:
            _settle_items(value, depth + 1, suspect)
        elif kind is not int:
            raise CborError("a float" if kind is float else "not of the data model")
        elif not limits.CBOR_INT_MIN <= value <= limits.CBOR_INT_MAX and (key != wide or value < 0):
            raise CborError("an integer beyond signed 64 bit")


def _link_or_bytes(data: bytes) -> bytes:
    """What `data` was in canonical input: there it was a link exactly if the encoder makes a link of it."""
    if len(data) == CID_BYTES and data.startswith(_LINK_PREFIXES):
        return Link(data)
    if libipld.encode_dag_cbor(data)[0] >> 5 == 6:
        raise CborError("a link that is not CIDv1 of SHA-256 over dag-cbor or raw")
    return data


def _bytes_only(data: bytes) -> bytes:
    return data


class _SuspectError(Exception):
    """A byte string that libipld might write as a link."""


def _refuse_suspect(_data: bytes) -> NoReturn:
    raise _SuspectError
