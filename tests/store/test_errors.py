"""What an operator is told of a failure: what it is and what to do, and nothing of Python or LMDB."""

import errno
from pathlib import Path

import pytest

from relay.store.datafile import check_whole
from relay.store.env import store_error
from relay.store.errors import Corrupt, StoreClosed, StoreError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            Corrupt("data/log/7: MDB_INVALID: File is not an LMDB file"),
            f"data/log/7: File is not an LMDB file: {Corrupt.remedy}",
        ),
        (
            store_error(OSError(errno.ENOSPC, "No space left on device", "data/state")),
            "No space left on device: 'data/state': make room on the disk of data_dir",
        ),
    ],
)
def test_foreign_names_and_numbers_are_left_out_and_a_remedy_is_added(error: StoreError, told: str) -> None:
    assert error.told == told


def test_a_remedy_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(Corrupt) as caught:
        check_whole(tmp_path / "data.mdb")

    assert caught.value.told.count("move data_dir away") == 1


def test_without_a_remedy_the_text_stands_alone() -> None:
    assert StoreClosed("the store was closed").told == "the store was closed"
