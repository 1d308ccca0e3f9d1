"""The whole verdict on one commit: bytes in, append item out, the key cached, every check of protocol.md section 14.

Each commit is judged in strict mode against the account row that the one before left, and must pass. Without `--frames`
on made-up commits of the network's shape (about 5.5 kB, eight or nine nodes, ten blocks). Cases beside the whole:
`slice_inversion` is reading the slice, all hashes included, and undoing the ops; the rest are the stages of the whole.
The bars are counted in bare verifications; benchmarks/README.md says what was reached.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.yardstick import Bar, Timed, arguments, bare_verify, measure, report
from relay.ingest.pipeline import Unfit, judge_event, outgoing, read_message, remarks_on
from relay.protocol.car import parse_car
from relay.protocol.diddoc import parse_did_document
from relay.protocol.events import CommitEvent
from relay.protocol.frame import MessageFrame
from relay.protocol.inversion import check_slice
from relay.store.batch import Item
from relay.verify.facts import NO_ACCOUNT, AccountState, Facts, HostView, Identity
from relay.verify.modes import STRICT
from relay.verify.ops import check_ops
from relay.verify.signed import SignedSlice, check_signature, check_signed, read_slice
from relay.verify.tree import check_tree
from relay.verify.verdict import Accept
from relay.world.corpus import frames_of_network_shape, read_frames

NOW_MS = 4_000_000_000_000  # after every rev: the clock must not matter here
ROUNDS_COMMITS = 300  # about this many are timed, of a recording spread over all of it, since repos grow
ROUNDS = 25  # short ones and many of them: on a busy machine the best of few long ones is nobody's best
BARS = (Bar("ratio", "<=", 5.0), Bar("ratio", "<=", 3.3))  # of the verdict, and of slice and inversion
BARS_RECORDED = (Bar("ratio", "<=", 3.3), Bar("ratio", "<=", 1.8))
SEED = 8  # of 12 tried the one nearest to field.md: a mean of 5.5 kB, 8.3 nodes, 41 entries


class Scene(NamedTuple):
    """One commit with all that is known when it comes."""

    message: bytes
    event: CommitEvent
    frame: MessageFrame
    facts: Facts


def identities_of(documents: Mapping[str, Any]) -> dict[str, Identity]:
    """What a resolver keeps of these documents."""
    identities = {}
    for did, body in documents.items():
        document = parse_did_document(did, body, allow_http=True)
        host = document.pds.partition("://")[2] if document.pds else None
        identities[did] = Identity(did, document.key, host, NOW_MS)
    return identities


def scenes_of(messages: Iterable[bytes], identities: Mapping[str, Identity]) -> list[Scene]:
    """Every commit of a stream, each with its account as the events before left it. Raises if one does not pass."""
    accounts: dict[str, AccountState] = {}
    scenes = []
    for message in messages:
        read = read_message(message)
        if isinstance(read, Unfit):
            raise TypeError(f"no event to judge: {read}")
        event, frame = read
        identity = identities[event.did]
        host = HostView(1, identity.host or "", 0, STRICT)
        account = accounts.get(event.did, NO_ACCOUNT)
        facts = Facts(identity, account, host, NOW_MS, refreshed=False)
        verdict = judge_event(event, facts)
        if not isinstance(verdict, Accept):
            raise TypeError(f"seq {event.seq} of the stream does not pass: {verdict}")
        accounts[event.did] = verdict.state._replace(version=account.version + 1)
        if isinstance(event, CommitEvent):
            scenes.append(Scene(message, event, frame, facts))
    return scenes


def whole(scene: Scene) -> Item:
    """The way of one commit through a worker, from bytes to what is appended."""
    read = read_message(scene.message)
    if isinstance(read, Unfit):
        raise TypeError(read)
    event, frame = read
    verdict = judge_event(event, Facts(*scene.facts))  # made for each event, as `Judge.verdict` does
    if not isinstance(verdict, Accept):
        raise TypeError(verdict)
    made = outgoing(event, frame, verdict.state)
    return Item(event.did, scene.facts.account.version, verdict.state, made, 1, event.seq, remarks_on(verdict))


def slice_inversion(event: CommitEvent, data: bytes) -> None:
    check_slice(parse_car(event.blocks).blocks, event.ops, data)


def each(function: Callable[..., object], *columns: Sequence[Any]) -> Callable[[], None]:
    """An operation that calls `function` once for every row of `columns`."""

    def run() -> None:
        for row in zip(*columns, strict=True):
            function(*row)

    return run


def timed(scenes: Sequence[Scene], bars: tuple[Bar, ...]) -> list[Timed]:
    events = [scene.event for scene in scenes]
    frames = [scene.frame for scene in scenes]
    facts = [scene.facts for scene in scenes]
    accounts = [scene.facts.account for scene in scenes]
    slices = [one for one in map(read_slice, events) if isinstance(one, SignedSlice)]
    roots = [one.commit.data for one in slices]
    sound = [check_ops(event.ops, STRICT) for event in events]
    firsts = [not account.rev for account in accounts]

    def tree(event: CommitEvent, signed: SignedSlice, ops: Any, first: bool) -> None:
        check_tree(event, signed, ops, STRICT, first=first)

    count, verify = len(scenes), "bare_verify"
    return [
        bare_verify(),
        Timed("verdict", each(whole, scenes), count, verify, bars[:1]),
        Timed("slice_inversion", each(slice_inversion, events, roots), count, verify, bars[1:]),
        Timed("read_message", each(read_message, [scene.message for scene in scenes]), count, verify),
        Timed("check_signed", each(check_signed, events, facts), count, verify),
        Timed("- read_slice", each(read_slice, events), count, verify),
        Timed("- check_signature", each(check_signature, slices, facts), count, verify),
        Timed("check_ops", each(lambda event: check_ops(event.ops, STRICT), events), count, verify),
        Timed("check_tree", each(tree, events, slices, sound, firsts), count, verify),
        Timed("outgoing", each(outgoing, events, frames, accounts), count, verify),
    ]


def main() -> None:
    parser = arguments("the whole verdict on one commit")
    parser.add_argument("--count", type=int, default=1_000, help="made-up commits to judge (1,000)")
    parser.add_argument("--frames", type=Path, help="a recording of frames to use in place of made-up ones")
    parser.add_argument("--identities", type=Path, help="the DID documents of the recording: a JSON object by DID")
    given = parser.parse_args()
    if bool(given.frames) != bool(given.identities):
        parser.error("--frames and --identities go together")
    if given.frames:
        messages, documents = list(read_frames(given.frames)), json.loads(given.identities.read_text())
    else:
        messages, documents = frames_of_network_shape(SEED, given.count)
    scenes = scenes_of(messages, identities_of(documents))
    scenes = scenes[:: max(1, len(scenes) // ROUNDS_COMMITS)]
    if not given.json:
        sizes = sorted(len(scene.message) for scene in scenes)
        print(f"{len(scenes)} commits, median {sizes[len(sizes) // 2]} bytes; microseconds per commit")
    report("verify", measure(timed(scenes, BARS_RECORDED if given.frames else BARS), rounds=ROUNDS), given)


if __name__ == "__main__":
    main()
