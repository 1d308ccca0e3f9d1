"""Messages of the independent world, changed before they are framed: fields of the payload, commit objects, slices."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from relay.world.car import car_slice
from relay.world.dagcbor import Link, Value, cid_of, encode
from relay.world.messages import Message
from tests.support.scene import Scene
from tests.world.slices import read_car

Fields = dict[str, Value]


def unchanged(_fields: Fields) -> None:
    """Only signed again."""


def altered(message: Message, **fields: Value) -> Message:
    """The message with these fields of the payload set."""
    return message._replace(payload={**message.payload, **fields})


def without(message: Message, key: str) -> Message:
    """The message without one field."""
    return message._replace(payload={name: value for name, value in message.payload.items() if name != key})


def ops_of(message: Message) -> list[Fields]:
    """The ops of a `#commit`, to be changed."""
    ops = message.payload["ops"]
    assert isinstance(ops, Sequence)
    return [dict(op) for op in ops if isinstance(op, Mapping)]


def blocks_of(message: Message) -> dict[Link, bytes]:
    """The blocks of the slice in order, the commit block last."""
    blocks = message.payload["blocks"]
    assert isinstance(blocks, bytes)
    return dict(read_car(blocks)[1])


def with_blocks(message: Message, blocks: Mapping[Link, bytes]) -> Message:
    """The message with other blocks under the same root."""
    data = message.payload["blocks"]
    assert isinstance(data, bytes)
    return altered(message, blocks=car_slice(read_car(data)[0], blocks.items()))


def resigned(scene: Scene, message: Message, change: Callable[[Fields], object] = unchanged) -> Message:
    """The message with another commit object, altered and signed again with the account's key.

    A `sig` that the change sets is taken as it is.
    """
    fields: Fields = {
        "did": scene.did,
        "version": 3,
        "data": scene.account.repo.tree.cid,
        "rev": message.rev,
        "prev": None,
    }
    change(fields)
    forced = fields.pop("sig", None)
    sig = scene.account.key.sign(sha256(encode(fields)).digest()) if forced is None else forced
    block = encode({**fields, "sig": sig})
    cid = cid_of(block)
    others = blocks_of(message)
    others.popitem()
    return altered(message, commit=cid, blocks=car_slice(cid, [*others.items(), (cid, block)]))
