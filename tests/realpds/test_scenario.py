"""Every kind of event that a real PDS can be made to send, and a migration: what passes, and what the rules forbid."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relay.protocol.frame import MessageFrame
from tests.realpds import compare
from tests.realpds.lab import get_json, network, run_script
from tests.realpds.relayprocess import RunningRelay, at_rest, running_relay
from tests.realpds.watching import watching

pytestmark = [pytest.mark.realpds, pytest.mark.timeout(500, func_only=True)]

SECONDS_MAX = 300
DEEP = 2_000  # records of the deep tree
STATUSES = {None, "deactivated", "takendown", "deleted"}
STALE = "migrate: commit still accepted at A (now without authority)"

_log = logging.getLogger(__name__)


async def test_every_kind_of_event(harness: Path, folder: Path) -> None:
    """All comes out as sent, but for what the old host says after the move and the new one's `#sync` of an old rev."""
    async with (
        network(harness, folder) as net,
        running_relay(net, seeds=net.hosts) as relay,
        watching(net, relay, folder) as watch,
    ):
        arguments = ("--network", str(net.file), "--out", str(folder), "--deep", str(DEEP))
        await run_script(net, "scenario.mjs", *arguments, seconds_max=SECONDS_MAX)
        await watch.settled()
        steps = [json.loads(line) for line in (folder / "scenario.jsonl").read_text().splitlines()]
        assert [step for step in steps if "err" in step] == []
        stale = next(step for step in steps if step["step"] == STALE)
        old, new = (stream.frames for stream in watch.sent)

        def is_stale(frame: MessageFrame) -> bool:
            return compare.did_of(frame) == str(stale["did"]) and int(frame.payload["seq"]) > int(stale["seqBefore"])

        passing = compare.without(old, is_stale) + compare.without(new, compare.carries_foreign_rev)
        received = watch.received.frames
        seqs = [frame.payload["seq"] for frame in received]

        assert [frame.type for frame in old if is_stale(frame)] == ["#commit", "#account"]
        assert [compare.did_of(frame) for frame in new if compare.carries_foreign_rev(frame)] == [stale["did"]]
        assert compare.differences(compare.by_account(passing), compare.by_account(received)) == []
        assert {frame.payload.get("status") for frame in received if frame.type == "#account"} == STATUSES
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert (await relay.books()).dropped == {"host_mismatch": 2, "commit_rev_mismatch": 1}
        await check_accounts(relay, json.loads((folder / "accounts.json").read_text()))
        code, told = await watch.official.finish()
        assert (code, told["errors"], told["errorKinds"]) == (0, 0, {})
        assert told["ops"] == compare.ops(received)
        _log.info("sent: %s", [Counter(frame.type for frame in stream.frames) for stream in watch.sent])
        _log.info("received: %s, told by the official consumer: %s", Counter(f.type for f in received), told)
    rest = at_rest()
    assert (rest.findings, rest.frames) == ((), len(received))


async def check_accounts(relay: RunningRelay, accounts: list[dict[str, Any]]) -> None:
    """The relay says of every account what its host says; of a deleted one that it is deleted."""
    for account in accounts:
        query = f"/xrpc/com.atproto.sync.getRepoStatus?did={account['did']}"
        ours, theirs = await relay.get(query), await get_json(account.get("migratedTo", account["pds"]) + query)
        if "error" in theirs:
            theirs = {"did": account["did"], "active": False, "status": "deleted"}
        assert ours == theirs, account["name"]
