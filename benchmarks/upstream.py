"""Simulated hosts and a directory in a process of their own, full of commits, for benchmarks that read them.

`python -m benchmarks.upstream` serves until its standard input ends; its first line of output is a JSON object with the
URLs and the number of frames. `upstream` starts one and ends it.
"""

import argparse
import json
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio

from relay.ingest.pipeline import read_message
from relay.protocol.frame import MessageFrame
from relay.world.corpus import frames_of_network_shape, read_frames
from relay.world.directory import Directory
from relay.world.host import SimulatedHost
from relay.world.plc import PlcServer


class Upstream(NamedTuple):
    """Where the hosts are, and how many frames they hold together."""

    hosts: Sequence[str]
    plc: str
    frames: int


@asynccontextmanager
async def upstream(hosts: int, frames: int, recording: Sequence[str] = ()) -> AsyncIterator[Upstream]:
    """A process that serves `frames` commits from `hosts` hosts; `recording` is the options that name one."""
    command = [sys.executable, "-m", "benchmarks.upstream", "--hosts", str(hosts), "--count", str(frames), *recording]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = bytearray()
        while not line.endswith(b"\n"):
            data = await process.stdout.receive_some()
            if not data:
                raise SystemExit("the simulated hosts did not start")
            line += data
        yield Upstream(**json.loads(line))
    finally:
        await process.stdin.aclose()
        with trio.move_on_after(5) as waiting:
            await process.wait()
        if waiting.cancelled_caught:
            process.kill()


def recording_options(given: argparse.Namespace) -> list[str]:
    """The options to pass on when a recording was given."""
    return ["--frames", str(given.frames), "--identities", str(given.identities)] if given.frames else []


def add_recording(parser: argparse.ArgumentParser) -> None:
    """The options for recorded traffic."""
    parser.add_argument("--frames", type=Path, help="a recording of frames to use in place of made-up ones")
    parser.add_argument("--identities", type=Path, help="the DID documents of the recording: a JSON object by DID")


def load(given: argparse.Namespace) -> tuple[list[bytes], Mapping[str, Any]]:
    """Frames and DID documents: recorded ones, or made-up ones of the network's shape."""
    if given.frames:
        return list(read_frames(given.frames)), json.loads(given.identities.read_text())
    return frames_of_network_shape(1, given.count)


async def serve(given: argparse.Namespace) -> None:
    messages, documents = load(given)
    async with trio.open_nursery() as nursery:
        hosts = [SimulatedHost() for _ in range(given.hosts)]
        urls = [await nursery.start(host.serve) for host in hosts]
        directory = Directory()
        plc = PlcServer(directory)
        await nursery.start(plc.serve)
        for message in messages:
            read = read_message(message)
            if not isinstance(read[1], MessageFrame):
                raise TypeError(f"no event: {read}")
            event = read[0]
            place = zlib.crc32(event.did.encode()) % given.hosts
            hosts[place].append(message, event.seq)
            directory.put(event.did, _moved(documents[event.did], urls[place]))
        print(json.dumps({"hosts": urls, "plc": plc.url, "frames": len(messages)}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


def _moved(document: Mapping[str, Any], url: str) -> Mapping[str, Any]:
    """The document with another host."""
    return {**document, "service": [{**document["service"][0], "serviceEndpoint": url}]}


def main() -> None:
    parser = argparse.ArgumentParser(description="simulated hosts for benchmarks")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--count", type=int, default=5_000)
    add_recording(parser)
    trio.run(serve, parser.parse_args())


if __name__ == "__main__":
    main()
