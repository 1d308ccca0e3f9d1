"""Ordinary traffic of real PDSes through a whole relay: everything comes out, whatever happens to a worker."""

import json
import logging
from collections import Counter
from pathlib import Path

import pytest
import trio

from tests.realpds import compare
from tests.realpds.lab import Network, get_json, network, run_script
from tests.realpds.relayprocess import at_rest, running_relay
from tests.realpds.watching import Watch, watching

pytestmark = [pytest.mark.realpds, pytest.mark.timeout(400, func_only=True)]

SECONDS, RATE, ACCOUNTS = 30, 50, 20
KILL_AT = (250, 700)  # frames received when a worker is killed; the traffic above is several times that

_log = logging.getLogger(__name__)


async def write(net: Network, out: Path, seconds: int = SECONDS) -> None:
    """Traffic for so long, into `out`; every write has to succeed."""
    arguments = ("--seconds", str(seconds), "--rate", str(RATE), "--accounts", str(ACCOUNTS), "--seed", "7")
    printed = await run_script(
        net, "traffic.mjs", "--network", str(net.file), "--out", str(out), *arguments, seconds_max=seconds + 120
    )
    summary = json.loads(printed.splitlines()[-1])
    assert summary["errors"] == 0, printed
    _log.info("written: %s", summary)


async def check(watch: Watch, out: Path) -> None:
    """Every event of both hosts came out once, in the order of its account; the writers' ledger says the same."""
    sent = [frame for stream in watch.sent for frame in stream.frames]
    received = watch.received.frames
    seqs = [frame.payload["seq"] for frame in received]

    assert compare.differences(compare.by_account(sent), compare.by_account(received)) == []
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert compare.commits(received) == compare.commits(sent)
    assert compare.commits(received, with_ops=True) == compare.ledger(out / "ledger.jsonl")
    assert len(compare.commits(received)) == len(compare.ledger(out / "ledger.jsonl")) + ACCOUNTS  # each one's first
    code, told = await watch.official.finish()
    assert (code, told["errors"], told["errorKinds"]) == (0, 0, {})
    assert told["ops"] == compare.ops(sent)
    _log.info("sent: %s", [Counter(frame.type for frame in stream.frames) for stream in watch.sent])
    _log.info("received: %s, told by the official consumer: %s", Counter(frame.type for frame in received), told)


async def test_all_that_real_hosts_send_comes_out(harness: Path, folder: Path) -> None:
    """Two seeds, 30 s of writes: both sets of commits are equal, and nothing at all is dropped."""
    async with (
        network(harness, folder) as net,
        running_relay(net, seeds=net.hosts) as relay,
        watching(net, relay, folder) as watch,
    ):
        await write(net, folder)
        await watch.settled()
        await check(watch, folder)
        books = await relay.books()

        assert books.dropped == {}
        assert books.received == books.appended == len(watch.received.frames)
        for account in json.loads((folder / "accounts.json").read_text()):
            query = f"/xrpc/com.atproto.sync.getLatestCommit?did={account['did']}"
            assert await relay.get(query) == await get_json(account["pds"] + query)
    rest = at_rest()
    assert (rest.findings, rest.frames) == ((), len(watch.received.frames))


async def test_hosts_that_ask_are_crawled_from_their_first_event_on(harness: Path, folder: Path) -> None:
    """A relay without seeds: each PDS announces itself with its first event, and that one comes out as well."""
    async with network(harness, folder, announcing=True) as net, running_relay(net) as relay:
        assert (await relay.get("/xrpc/com.atproto.sync.listHosts"))["hosts"] == []
        async with watching(net, relay, folder) as watch:
            await write(net, folder)
            await watch.settled()
            await check(watch, folder)

            assert (await relay.books()).dropped == {}


async def test_a_killed_ingest_worker_costs_nothing(harness: Path, folder: Path) -> None:
    """SIGKILL of each ingest worker in turn, amid the events of its host: the sets stay equal, and seqs contiguous.

    What was settled above the host cursor is read again by the new process, and dropped as `replayed`.
    """
    async with (
        network(harness, folder) as net,
        running_relay(net, seeds=net.hosts) as relay,
        watching(net, relay, folder) as watch,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, net, folder)
            heard_before = []
            for place, frames in enumerate(KILL_AT):
                await watch.received.hold(frames, seconds_max=120)
                heard_before.append(len(watch.sent[place].look()))
                await relay.kill_worker("ingest", net.hosts[place].worker)
        await watch.settled()

        assert all(len(stream.frames) > count for stream, count in zip(watch.sent, heard_before, strict=True))
        for host in net.hosts:
            worker = await relay.worker("ingest", host.worker)
            assert (worker["restarts"], worker["last_exit"]) == (1, "ended by SIGKILL")
        await check(watch, folder)
    rest = at_rest()
    assert {reason for dropped in rest.dropped.values() for reason in dropped} <= {"replayed"}
    assert (rest.findings, rest.frames) == ((), len(watch.received.frames))
    _log.info("dropped: %s", rest.dropped)
