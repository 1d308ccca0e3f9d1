"""Identity rows: packing, and that the newest document wins."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.multikey import PublicKey
from relay.store.errors import Corrupt
from relay.store.identities import pack_identity, unpack_identity
from relay.store.store import Store
from relay.verify.facts import Identity
from tests.store.batches import batch, did

KEYS = st.none() | st.builds(PublicKey, st.sampled_from(["k256", "p256"]), st.binary(min_size=33, max_size=33))
IDENTITIES = st.builds(
    Identity,
    did=st.just(did(1)),
    key=KEYS,
    host=st.none() | st.text(max_size=260),
    fetched_ms=st.integers(0, 2**53),
    stale=st.booleans(),
    tombstone=st.booleans(),
)


@given(IDENTITIES)
def test_a_row_gives_back_what_was_packed(identity: Identity) -> None:
    assert unpack_identity(identity.did, pack_identity(identity)) == identity


@given(st.binary(max_size=60))
def test_any_bytes_are_a_row_or_corrupt(data: bytes) -> None:
    with contextlib.suppress(Corrupt):
        unpack_identity(did(1), data)


@pytest.mark.parametrize("data", [b"ab", b"\x04" + bytes(8) + b"\xff.example"], ids=["cut off", "the host is no text"])
def test_a_row_that_cannot_be_is_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt, match=r"^identity row: "):
        unpack_identity(did(1), data)


def test_the_newest_document_wins(store: Store) -> None:
    newer = Identity(did(1), None, "b.example:443", 20)
    store.append(batch(identities=(newer,)))
    store.append(batch(identities=(Identity(did(1), None, "a.example:443", 10),)))
    with store.view() as view:
        assert view.identity(did(1)) == newer
    stale = newer._replace(stale=True)
    store.append(batch(identities=(stale,)))
    with store.view() as view:
        assert view.identity(did(1)) == stale  # of the same document, the later word counts
