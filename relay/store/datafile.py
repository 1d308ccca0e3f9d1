"""The data file of an LMDB env as bytes: whether it is one, and whether all of it is there.

LMDB reads the file through a memory map, where a missing page is no error but the end of the process by SIGBUS. So this
looks before the file is mapped, with plain reads. A file may rightly end before the last page that its newest meta page
names: pages that a txn took and gave back were never written. All of those are in the freelist; a page that is missing
and not free was cut off.

Knows LMDB's format as far as that takes (data version 1 on a 64-bit machine) and changes nothing. What it reads may be
torn by somebody who writes meanwhile, so no number in it is believed without a bound.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from relay.store.errors import Corrupt

DATA_FILE = "data.mdb"

_MAGIC = 0xBEEFC0DE
_VERSION = 1
_META = struct.Struct("=16xII16xI36xQ48xQQ")  # magic, version, bytes of a page, root of the freelist, last page, txn id
_PAGE = struct.Struct("=10xHH2x")  # flags, end of the node offsets, which are 16 bits each and follow
_NODE = struct.Struct("=HHHH")  # low and middle part of a number, its high part or flags, bytes of the key that follows
_NUMBER = struct.Struct("=Q")
_BRANCH = 0x01  # flag of a page: nodes are numbers of pages
_ELSEWHERE = 0x01  # flag of a node: its data are on pages of their own
_NONE = 2**64 - 1
_REMEDY = Corrupt.remedy


class _Meta(NamedTuple):
    page_bytes: int
    freelist: int
    last_page: int
    txn_id: int


def check_whole(path: Path) -> bool:
    """Raise `Corrupt` when pages that are in use are missing. False for a file that is not LMDB's or of another format.

    Other processes may write meanwhile: they write pages before the meta page that names them. Raises OSError.
    """
    if not path.exists():
        raise Corrupt(f"{path} is missing: {_REMEDY}")
    with path.open("rb") as file:
        meta = _newest_meta(file)
        size = os.fstat(file.fileno()).st_size
        if size and (meta is None or _is_whole(file, size, meta)):
            return meta is not None
        if meta != _newest_meta(file):
            return True  # changed under the look, by a process that had found it whole
    raise Corrupt(f"{path} was cut off, it has {size} bytes and pages beyond that in use: {_REMEDY}")


def _newest_meta(file: BinaryIO) -> _Meta | None:
    """What the later one of the two meta pages says; None for a file that is not LMDB's, or of another format."""
    first = _read_meta(file, 0)
    second = _read_meta(file, first.page_bytes) if first is not None else None
    return second if first is not None and second is not None and second.txn_id > first.txn_id else first


def _read_meta(file: BinaryIO, offset: int) -> _Meta | None:
    try:
        magic, version, *fields = _META.unpack(_read(file, offset, _META.size))
    except EOFError:
        return None
    meta = _Meta._make(fields)
    return meta if (magic, version) == (_MAGIC, _VERSION) and meta.page_bytes else None


def _is_whole(file: BinaryIO, size: int, meta: _Meta) -> bool:
    first_missing = size // meta.page_bytes
    missing = range(first_missing, meta.last_page + 1)
    if not missing:
        return True
    try:
        return {page for page in _free_pages(file, meta) if page >= first_missing}.issuperset(missing)
    except (EOFError, struct.error):  # the freelist is missing as well, or is none
        return False


def _free_pages(file: BinaryIO, meta: _Meta) -> Iterator[int]:
    """What is in the freelist, a tree of lists of page numbers. A damaged one raises EOFError or struct.error."""
    list_bytes_max = _NUMBER.size * (meta.last_page + 2)  # a count, and every page of the file
    seen: set[int] = {_NONE}
    pages = [meta.freelist]
    while pages:
        number = pages.pop()
        if number in seen:
            continue  # no page, or in a damaged tree one for the second time
        seen.add(number)
        page = _read(file, number * meta.page_bytes, meta.page_bytes)
        flags, offsets_end = _PAGE.unpack_from(page)
        for at in struct.unpack_from(f"={(offsets_end - _PAGE.size) // 2}H", page, _PAGE.size):
            low, middle, high, key_bytes = _NODE.unpack_from(page, at)
            value = low | middle << 16
            if flags & _BRANCH:
                pages.append(value | high << 32)
            else:
                data_at = at + _NODE.size + key_bytes
                data = page[data_at : data_at + value]
                if high & _ELSEWHERE:
                    if value > list_bytes_max:
                        raise EOFError
                    data = _read(file, _NUMBER.unpack_from(page, data_at)[0] * meta.page_bytes + _PAGE.size, value)
                yield from _numbers(data)


def _numbers(data: bytes) -> Iterator[int]:
    """A count and so many page numbers."""
    (count,) = _NUMBER.unpack_from(data)
    yield from struct.unpack_from(f"={count}Q", data, _NUMBER.size)


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Raises EOFError when the file ends before."""
    if offset + size > os.fstat(file.fileno()).st_size:
        raise EOFError
    file.seek(offset)
    return file.read(size)
