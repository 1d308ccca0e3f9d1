"""The most work that a legal frame can ask for: it grows with the bytes, in time and in memory, and stays small.

Each shape is judged at half its size and at its full size. Time is that of this process, so that other work on the
machine does not count; the bounds leave room for noise, and a quadratic step breaks them (four times, not two).
"""

import time
import tracemalloc
from collections.abc import Callable

import pytest

from relay.ingest.pipeline import Unfit, judge_event, read_message
from relay.protocol.limits import BLOCKS_BYTES_MAX, OPS_MAX
from relay.verify.modes import STRICT
from relay.verify.verdict import Accept, Drop, Reason
from relay.world.car import car_slice
from relay.world.dagcbor import Link, cid_of, encode
from relay.world.messages import Message
from relay.world.repo import Repo, Write
from relay.world.tree import Node, build, encode_node, key_layer, seal
from tests.support.altering import altered, blocks_of, resigned, with_blocks
from tests.support.mutants import RECORD
from tests.support.scene import HOME, NOW_MS, Scene

GROWTH_MAX = 3.2  # for twice the size
SECONDS_MAX = 2.0  # of one frame, on any machine; 0.05 where this was written
MEMORY_PER_BYTE_MAX = 20  # at most 6 where this was written


def sized(message: Message, blocks: list[tuple[Link, bytes]]) -> Message:
    """The message with these blocks before its own."""
    own = list(blocks_of(message).items())
    made = altered(message, blocks=car_slice(own[-1][0], [*blocks, *own]))
    assert len(made.payload["blocks"]) <= BLOCKS_BYTES_MAX  # type: ignore[arg-type]  # bytes
    return made


def tiny_blocks(scene: Scene, half: int) -> Message:
    """As many strays as fit, of two or three bytes."""
    strays = [number.to_bytes(3) for number in range(23_000 * half)]
    message = scene.write()
    return sized(message, [(cid_of(stray), stray) for stray in strays])


def one_block_again_and_again(scene: Scene, half: int) -> Message:
    message = scene.write()
    return sized(message, [(cid_of(b"x"), b"x")] * (25_000 * half))


def long_keys(scene: Scene, half: int) -> Message:
    """Keys as long as they may be, which differ at their ends: a byte in the slice for many in memory."""
    paths = [f"com.example.note/{'a' * 490}{number:06}" for number in range(3_000 * half)]
    tree = build((path.encode(), cid_of(RECORD)) for path in paths)
    scene.account.repo = Repo(scene.did, tree=tree, rev="3222222222222")
    seal(tree)
    changes = [Write(f"{path}x", RECORD) for path in paths[:: len(paths) // (OPS_MAX * half // 2)]]
    message = scene.account.repo.commit(changes[: OPS_MAX * half // 2], scene.account.key, NOW_MS)
    whole = {node.cid: node.block for node in _nodes(scene.account.repo.tree)}
    return with_blocks(message, {**whole, **blocks_of(message)})


def wide_nodes(scene: Scene, half: int) -> Message:
    """Mined keys: two layers, and in each as many keys to a node as the relay takes."""
    mined: tuple[list[str], list[str]] = ([], [])
    number = 0
    while len(mined[1]) < 12 * half or len(mined[0]) < 12_000 * half:
        layer = min(key_layer(f"com.example.note/{number:06}".encode()), 2)
        if layer < 2 and (layer == 0 or len(mined[0]) >= 1_000 * (len(mined[1]) + 1)):
            mined[layer].append(f"com.example.note/{number:06}")
        number += 1
    records = [(path.encode(), cid_of(RECORD)) for layer in mined for path in layer]
    scene.account.repo = Repo(scene.did, tree=build(records), rev="3222222222222")
    step = len(mined[0]) // (OPS_MAX * half // 2)
    changes = [Write(path, None) for path in mined[0][::step]][: OPS_MAX * half // 2]
    return scene.account.repo.commit(changes, scene.account.key, NOW_MS)


def one_node_of_all(scene: Scene, half: int) -> Message:
    """A node with far more keys than any may have."""
    keys = tuple(f"com.example.note/{number:06}".encode() for number in range(8_000 * half))
    return _over_root(scene, encode_node(Node(0, keys, (cid_of(RECORD),) * len(keys), (None,) * (len(keys) + 1))))


def chain_of_links(scene: Scene, half: int) -> Message:
    """Nodes without keys, thousands deep."""
    block = encode({"e": [], "l": None})
    chain = {}
    for _ in range(8_000 * half):
        block = encode({"e": [], "l": cid_of(block)})
        chain[cid_of(block)] = block
    key = max((b"com.example.note/%d" % number for number in range(5_000)), key=key_layer)
    root = encode({"e": [{"k": key, "p": 0, "t": None, "v": cid_of(RECORD)}], "l": cid_of(block)})
    return _over_root(scene, root, chain)


def _over_root(scene: Scene, root: bytes, more: dict[Link, bytes] | None = None) -> Message:
    message = scene.account.repo.commit([Write("com.example.note/0", RECORD)], scene.account.key, NOW_MS)
    made = with_blocks(message, {**(more or {}), cid_of(root): root, **blocks_of(message)})
    return resigned(scene, made, lambda fields: fields.update(data=cid_of(root)))


def _nodes(node: Node) -> list[Node]:
    return [node, *(below for child in node.children if child is not None for below in _nodes(child))]


SHAPES: dict[Callable[[Scene, int], Message], Reason | None] = {
    tiny_blocks: None,
    one_block_again_and_again: None,
    long_keys: None,
    wide_nodes: None,
    one_node_of_all: Reason.MST_INVALID,
    chain_of_links: Reason.MST_INVALID,
}


def judge(scene: Scene, frame: bytes) -> Reason | None:
    """Bytes in, reason out; None for a pass."""
    read = read_message(frame)
    assert not isinstance(read, Unfit), read
    host = HOME._replace(mode=STRICT)
    verdict = judge_event(read[0], scene.facts(scene.known(), host=host))
    assert isinstance(verdict, Accept | Drop)
    return verdict.reason if isinstance(verdict, Drop) else None


def seconds(scene: Scene, frame: bytes) -> float:
    took = []
    for _ in range(3):
        began = time.process_time()
        judge(scene, frame)
        took.append(time.process_time() - began)
    return min(took)


def peak_bytes(scene: Scene, frame: bytes) -> int:
    tracemalloc.start()
    try:
        judge(scene, frame)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape.__name__))
def test_work_grows_with_the_frame(shape: Callable[[Scene, int], Message]) -> None:
    """Checklist 120, design invariant 8."""
    scenes = [Scene(half) for half in (1, 2)]
    frames = [shape(scene, half).frame(1, NOW_MS) for half, scene in enumerate(scenes, 1)]
    assert len(frames[1]) > 600_000
    assert [judge(*pair) for pair in zip(scenes, frames, strict=True)] == [SHAPES[shape]] * 2
    half, whole = (seconds(*pair) for pair in zip(scenes, frames, strict=True))
    assert whole < SECONDS_MAX
    assert whole < GROWTH_MAX * half + 0.005
    assert peak_bytes(scenes[1], frames[1]) < MEMORY_PER_BYTE_MAX * len(frames[1])
