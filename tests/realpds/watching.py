"""Everybody who listens while a test writes: a recorder on each PDS, one on the relay, and Bluesky's own consumer."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from relay.protocol.frame import MessageFrame
from tests.realpds.lab import Listener, Network, Pds, Recording, eventually, listener, recording
from tests.realpds.relayprocess import RunningRelay
from tests.support.until import until

SETTLE_SECONDS_MAX = 90.0


class Official(NamedTuple):
    """The official TypeScript consumer, which checks signatures and proofs, and the file it writes its events to."""

    heard: Listener
    events: Path

    def last_seq(self) -> int:
        """Of the newest event it told, 0 before the first."""
        text = self.events.read_text() if self.events.exists() else ""
        *complete, _ = text.split("\n")
        return int(json.loads(complete[-1]).get("seq", 0)) if complete else 0

    async def finish(self) -> tuple[int, dict[str, Any]]:
        """Stop it: its exit code, which is 0 when it was content, and its summary."""
        code = await self.heard.stop()
        return code, json.loads(self.heard.printed.read_text().splitlines()[-1])["summary"]


class Watch(NamedTuple):
    """What is heard. `sent` are the streams of the hosts, in their order."""

    relay: RunningRelay
    hosts: tuple[Pds, ...]
    sent: tuple[Recording, ...]
    received: Recording
    official: Official

    async def settled(self) -> None:
        """Until all that the hosts sent is recorded, settled in the relay, and read by the consumers.

        Nothing may be writing any more.
        """
        for host, sent in zip(self.hosts, self.sent, strict=True):
            newest = await host.seq()
            await sent.reach(newest, SETTLE_SECONDS_MAX)

            async def is_settled(host: Pds = host, newest: int = newest) -> bool:
                return await self.relay.settled_seq(host) == newest

            await eventually(is_settled, f"all of {host.hostname} up to {newest} is settled", SETTLE_SECONDS_MAX)
        await self.received.reach(await self.relay.tip(), SETTLE_SECONDS_MAX)
        told = max(frame.payload["seq"] for frame in self.received.frames if _is_told(frame))
        await until(lambda: self.official.last_seq() >= told, SETTLE_SECONDS_MAX)


def _is_told(frame: MessageFrame) -> bool:
    """Whether the official consumer makes an event of it; it does not of a commit without operations."""
    return frame.type != "#commit" or bool(frame.payload["ops"])


@asynccontextmanager
async def watching(network: Network, relay: RunningRelay, folder: Path) -> AsyncIterator[Watch]:
    """Everybody listens when the block begins."""
    events = folder / "official.jsonl"
    arguments = ("--url", relay.stream, "--plc", network.plc, "--cursor", "0", "--out", str(events))
    async with AsyncExitStack() as stack:
        sent = [
            await stack.enter_async_context(recording(network, host.stream, folder / f"sent{place}"))
            for place, host in enumerate(network.hosts)
        ]
        received = await stack.enter_async_context(recording(network, relay.stream, folder / "received"))
        heard = await stack.enter_async_context(
            listener(network, folder / "official.log", "consume_atproto_sync.mjs", *arguments)
        )
        yield Watch(relay, network.hosts, tuple(sent), received, Official(heard, events))
