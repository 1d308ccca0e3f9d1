"""Keys and the small rows: what cannot be as we wrote it is `Corrupt`, and nothing else is raised for it."""

from collections.abc import Callable

import pytest

from relay.store.env import Env, Txn
from relay.store.errors import Corrupt
from relay.store.layout import (
    META,
    META_GENERATION,
    META_LOG,
    META_RAISES,
    did_key,
    did_of,
    read_generation,
    read_log_row,
    read_raises,
    u64,
    u64_of,
)
from relay.store.store import Store


def test_a_number_is_the_one_that_was_packed() -> None:
    assert u64_of(u64(2**53)) == 2**53


@pytest.mark.parametrize("key", [b"", b"1234567", b"123456789"])
def test_a_number_of_another_size_is_corrupt(key: bytes) -> None:
    with pytest.raises(Corrupt):
        u64_of(key)


def test_the_key_of_a_did_gives_it_back_and_one_that_is_no_text_is_corrupt() -> None:
    assert did_of(did_key("did:web:example.com") or b"") == "did:web:example.com"
    with pytest.raises(Corrupt):
        did_of(b"did:plc:\xff")


@pytest.mark.parametrize(
    ("name", "read"), [(META_LOG, read_log_row), (META_RAISES, read_raises), (META_GENERATION, read_generation)]
)
def test_a_row_of_another_size_is_corrupt(
    store: Store, name: bytes, read: Callable[[Env, "Txn[bytes]"], object]
) -> None:
    env = store._state.env
    with env.begin(write=True) as txn:
        read(env, txn)
        txn.put(name, b"short", db=env.db[META])

        with pytest.raises(Corrupt):
            read(env, txn)
