"""Identity rows: packing, and that the newest document wins."""

from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.multikey import PublicKey
from relay.store.identities import pack_identity, unpack_identity
from relay.store.store import Store
from relay.verify.identity import Identity
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
