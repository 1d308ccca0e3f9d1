"""Records and paths of the kinds and sizes real accounts write, and large trees of them to start from.

Nothing here is judged by a relay (protocol.md section 1); only the sizes matter, and that paths are valid.
"""

import random
from itertools import accumulate

from relay.world.dagcbor import CID_PREFIX, Link, Value, cid_text, encode
from relay.world.times import datetime_text, tid
from relay.world.tree import Node, build, key_layer, seal

_COLLECTIONS = {
    "app.bsky.feed.like": 50,
    "app.bsky.feed.post": 20,
    "app.bsky.feed.repost": 9,
    "app.bsky.feed.threadgate": 1,
    "app.bsky.graph.block": 3,
    "app.bsky.graph.follow": 12,
    "app.bsky.graph.listitem": 3,
    "com.example.game.score": 1,
    "com.example.reading.note": 1,
}
"""How often each collection is written to, in per cent."""
_TEXT = (
    "the sea was calm and every lamp along harbour street burned low while rain moved in from far hills "
    "nobody spoke much but somewhere a radio played old songs about trains rivers bread winter light and "
    "no train came before noon so they walked the old line counting posts until the town was out of sight "
)
_NAMES = tuple(_COLLECTIONS)
_CUMULATIVE = tuple(accumulate(_COLLECTIONS.values()))
_YEAR_US = 365 * 86_400 * 1_000_000


def random_did(rng: random.Random) -> str:
    """A did:plc of the right shape: 24 characters of base32."""
    return "did:plc:" + "".join(rng.choices("abcdefghijklmnopqrstuvwxyz234567", k=24))


def random_path(rng: random.Random, time_us: int) -> str:
    """The path of a record made at `time_us`: a busy collection and a TID."""
    return f"{_collection(rng)}/{tid(time_us, rng.getrandbits(10))}"


def random_record(rng: random.Random, collection: str, now_ms: int) -> bytes:
    """A record block of `collection`, 100 to 350 bytes."""
    fields: dict[str, Value] = {"$type": collection, "createdAt": datetime_text(now_ms)}
    if collection == "app.bsky.feed.post":
        start = rng.randrange(len(_TEXT))
        fields |= {"text": _TEXT[start : start + rng.randrange(8, 280)], "langs": ["en"]}
    elif collection == "app.bsky.graph.follow":
        fields["subject"] = random_did(rng)
    else:
        uri = f"at://{random_did(rng)}/app.bsky.feed.post/{tid(now_ms * 1000, rng.getrandbits(10))}"
        fields["subject"] = {"cid": cid_text(_random_cid(rng)), "uri": uri}
    return encode(fields)


def seeded_tree(rng: random.Random, records: int, now_ms: int, *, layer_min: int = 0) -> Node:
    """A sealed tree of `records` records from the year before `now_ms`, whose blocks exist nowhere.

    Its last key is searched until one has layer `layer_min`, which sets the length of every path: accounts that write
    much have 8 or 9 nodes there (field.md), while the layers of a few thousand keys alone scatter around 6.
    """
    start_us = now_ms * 1000 - _YEAR_US
    chosen: dict[bytes, bytes] = {}
    while len(chosen) < records:
        key = random_path(rng, start_us + rng.randrange(_YEAR_US)).encode()
        if len(chosen) < records - 1 or key_layer(key) >= layer_min:
            chosen[key] = _random_cid(rng)
    tree = build(chosen.items())
    seal(tree)
    return tree


def _collection(rng: random.Random) -> str:
    return rng.choices(_NAMES, cum_weights=_CUMULATIVE)[0]


def _random_cid(rng: random.Random) -> Link:
    return Link(CID_PREFIX + rng.randbytes(32))
