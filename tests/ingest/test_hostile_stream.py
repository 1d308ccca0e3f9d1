"""A hostile host among honest ones, through a whole ingest worker: nothing wrong gets out, all that is right does."""

import time
from collections import Counter
from functools import partial
from pathlib import Path

import trio

from relay.protocol.frame import MessageFrame
from relay.world.accounts import did_document
from relay.world.host import SimulatedHost
from relay.world.messages import Message
from relay.world.network import Emission, Shape
from relay.world.stage import Stage, open_stage
from tests.support.inprocess import Ingest, hostnames, ingesting, keys_by_did, keys_of_frames
from tests.support.mutants import RIGHT, WRONG, Case, Victim
from tests.support.until import until


class Sent:
    """What the hostile host was made to say: what must come out of it, and the reasons for the rest."""

    def __init__(self) -> None:
        self.passing: list[Message] = []
        self.reasons: Counter[str] = Counter()
        self.total = 0


def play(case: Case, victim: Victim, host: SimulatedHost, sent: Sent) -> None:
    """The victim's first commit, then the case."""
    messages = list(case.make(victim))
    if case.document:
        messages.insert(0, victim.base)
    for message in messages:
        host.emit(message, case.time_ms)
    sent.total += len(messages)
    if case.reason is not None:
        messages.pop()
        sent.reasons[case.reason] += 1
    sent.passing += messages


async def perform(stage: Stage, host: SimulatedHost, now_ms: int) -> tuple[Sent, list[Emission]]:
    """All cases from one host, the honest network going on between them."""
    sent = Sent()
    honest: list[Emission] = []
    strangers = list(stage.network.directory.documents())
    victims: list[tuple[Case, Victim]] = []
    for seed, case in enumerate([*WRONG, *RIGHT]):
        victim = Victim(1_000 + seed, now_ms, strangers[seed % len(strangers)])
        if case.document:
            stage.network.directory.put(victim.did, did_document(victim.account, host.url))
        victims.append((case, victim))
    for case, victim in victims:
        honest += stage.step(now_ms)
        play(case, victim, host, sent)
    return sent, honest


async def test_nothing_wrong_gets_out_and_all_that_is_right_does(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Forty and more kinds of fault, each dropped under its own reason, in the metrics and in the host's row."""
    now_ms = time.time_ns() // 1_000_000
    shape = Shape(records=100, layer_min=2, templates=1, lifecycle=0)
    stage = await open_stage(nursery, seed=11, hosts=2, accounts=8, now_ms=now_ms - 60_000, shape=shape)
    hostile = SimulatedHost()
    await nursery.start(hostile.serve)
    names = (*hostnames(stage), hostile.url.removeprefix("http://"))
    async with ingesting(tmp_path, hosts=names, plc_url=stage.plc.url) as ingest:
        sent, honest = await perform(stage, hostile, now_ms)
        await until(partial(_is_done, ingest, sent.total + len(honest)), seconds=40)
        await until(lambda: _stored(ingest, names[2]) == sent.reasons)
        frames = ingest.logged()
        ours = {message.did for message in sent.passing}

        assert ingest.dropped() == sent.reasons
        assert keys_of_frames([frame for frame in frames if _did(frame) not in ours]) == keys_by_did(honest)
        assert _words([frame for frame in frames if _did(frame) in ours]) == Counter(
            (message.did, message.rev) for message in sent.passing
        )
        assert ingest.received() == len(frames) + sent.reasons.total()
    nursery.cancel_scope.cancel()


def test_the_cases_are_forty_and_ten_of_different_kinds() -> None:
    assert len({case.name for case in WRONG}) == len(WRONG) >= 40
    assert len({case.name for case in RIGHT}) == len(RIGHT) >= 10
    assert all(case.reason for case in WRONG)
    assert not any(case.reason for case in RIGHT)


def _did(frame: MessageFrame) -> str:
    did = frame.payload.get("repo") or frame.payload["did"]
    assert isinstance(did, str)
    return did


def _words(frames: list[MessageFrame]) -> Counter[tuple[str, str]]:
    return Counter((_did(frame), frame.payload.get("rev", "")) for frame in frames)


def _is_done(ingest: Ingest, sent: int) -> bool:
    return len(ingest.logged()) + ingest.dropped().total() >= sent


def _stored(ingest: Ingest, hostname: str) -> Counter[str]:
    """The tallies of the host's row."""
    with ingest.store.view() as view:
        row = view.host_named(hostname)
    assert row is not None
    return Counter(row.dropped)
