"""One simulated account and the DID document that names its key and its host (protocol.md section 11)."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from relay.world.keys import SigningKey, make_key, multikey
from relay.world.records import random_did
from relay.world.repo import Repo
from relay.world.tree import Node

P256_SHARE = 0.05
"""More than the real network has (none in two samples, field.md), so that the other curve is always exercised."""

Document = Mapping[str, object]


@dataclass(slots=True, eq=False)
class Account:
    """An account as its host knows it. `host` is the number of the host it lives on."""

    did: str
    handle: str
    key: SigningKey
    repo: Repo
    host: int


def new_account(rng: random.Random, host: int, tree: Node | None = None, rev: str = "") -> Account:
    """An account drawn from `rng`, with a repo that starts from `tree` and `rev`, or empty."""
    did = random_did(rng)
    handle = f"{did.removeprefix('did:plc:')[:10]}.example.com"
    repo = Repo(did, clock_id=rng.getrandbits(10), tree=tree, rev=rev)
    return Account(did, handle, new_key(rng), repo, host)


def new_key(rng: random.Random) -> SigningKey:
    """A key of either curve, P-256 in about one of twenty."""
    return make_key(rng, "p256" if rng.random() < P256_SHARE else "k256")


def did_document(account: Account, pds: str) -> Document:
    """The document as the PLC directory words it; `pds` is a URL like `http://localhost:2583`."""
    return {
        "@context": [
            "https://www.w3.org/ns/did/v1",
            "https://w3id.org/security/multikey/v1",
            "https://w3id.org/security/suites/secp256k1-2019/v1",
        ],
        "id": account.did,
        "alsoKnownAs": [f"at://{account.handle}"],
        "verificationMethod": [
            {
                "id": f"{account.did}#atproto",
                "type": "Multikey",
                "controller": account.did,
                "publicKeyMultibase": multikey(account.key),
            },
        ],
        "service": [{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds}],
    }
