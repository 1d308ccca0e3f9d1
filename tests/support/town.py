"""A simulated network beside a real relay, and the consumer that judges what the relay makes of it.

The relay stays, towns come and go: each test has hosts and accounts of its own, made known by requestCrawl. Their
events have one right outcome however long the relay is away, so nothing here moves an account or changes a key.
"""

import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import trio

from relay.app.scorecard import Scorecard
from relay.world.accounts import Account
from relay.world.host import SimulatedHost
from relay.world.messages import Message
from relay.world.network import Emission, Network, Shape
from relay.world.plc import PlcServer
from tests.support.fake_consumer import Closed, Refused, connect
from tests.support.processes import LOOK_EVERY_SECONDS, RelayProcess, Scrape
from tests.support.until import until

CALM = Shape(records=60, layer_min=1, templates=1, lifecycle=0, quiet_ms=200)
RECONNECT_SECONDS = 0.05
ARRIVAL_SECONDS_MAX = 30.0
BOOKS_SECONDS_MAX = 20.0  # an event of the wrong host waits while the directory may lag


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Books(NamedTuple):
    """What the ingest workers have counted since each began."""

    received: float
    appended: float
    dropped: float
    in_flight: float

    @classmethod
    def of(cls, scrape: Scrape) -> "Books":
        return cls(
            scrape.total("relay_ingest_frames_received_total"),
            scrape.total("relay_log_events_appended_total", origin="host"),
            scrape.total("relay_ingest_events_dropped_total"),
            scrape.total("relay_ingest_in_flight"),
        )

    @property
    def are_settled(self) -> bool:
        return not self.in_flight and self.received == self.appended + self.dropped


class Town:
    """A network, its servers, and one consumer with its judge. `hosts[i]` is host number i."""

    def __init__(self, relay: RelayProcess, hosts: int, accounts: int, seed: int) -> None:
        self.relay = relay
        self.hosts = [SimulatedHost() for _ in range(hosts)]
        self.ports = [relay.reserve() for _ in self.hosts]
        self.network = Network(seed, [f"http://localhost:{port}" for port in self.ports], accounts, now_ms(), CALM)
        self.plc = PlcServer(self.network.directory)
        self.scorecard = Scorecard()
        self.messages: list[bytes] = []
        self.endings: list[Closed] = []
        self.first_seq = 0
        self._rng = random.Random(seed)

    def hostname(self, number: int) -> str:
        """host:port, as the relay names it."""
        return f"localhost:{self.ports[number]}"

    def seq(self, number: int) -> int:
        """The newest seq of a host."""
        return self.hosts[number].window.tip

    # What happens.

    def send(self, emission: Emission) -> None:
        """One event leaves its host."""
        self.hosts[emission.host].emit(emission.message, now_ms())
        self.scorecard.sent(emission)

    def emit(self, account: Account, message: Message, *, passes: bool = True) -> None:
        """A message of an account's host."""
        self.send(Emission(account.host, message, passes))

    def write(self, account: Account) -> None:
        """One commit."""
        self.send(self.network.write(account, now_ms()))

    def create_account(self, host: int | None = None) -> Account:
        """A new account, with all its messages; its host's choice when `host` is None."""
        emissions = self.network.create_account(now_ms(), host)
        for emission in emissions:
            self.send(emission)
        return next(each for each in self.network.writers if each.did == emissions[0].message.did)

    def live(self) -> None:
        """One step: mostly writes, and accounts that are born, pause, come back and go."""
        kind = self._rng.random()
        if kind < 0.03:
            self.create_account()
        elif kind < 0.05 and len(self.network.writers) > 4:
            story = self._rng.choice([self.network.deactivate, self.network.delete])
            for emission in story(self._rng.choice(self.network.writers), now_ms()):
                self.send(emission)
        else:
            for emission in self.network.step(now_ms()):
                self.send(emission)

    @asynccontextmanager
    async def playing(self, events_per_second: float) -> AsyncGenerator[None, None]:
        """Live meanwhile."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._play, events_per_second)
            yield
            nursery.cancel_scope.cancel()

    async def _play(self, events_per_second: float) -> None:
        due = trio.current_time()
        while True:
            before = self.scorecard.events_sent
            self.live()
            due += max(1, self.scorecard.events_sent - before) / events_per_second
            await trio.sleep_until(due)

    # What is seen.

    async def received(self, count: int) -> None:
        """Until the consumer has so many events more."""
        wanted = self.scorecard.events_received + count
        await until(lambda: self.scorecard.events_received >= wanted, ARRIVAL_SECONDS_MAX)

    async def caught_up(self) -> None:
        """Until the consumer has everything that was sent and has to pass."""
        with trio.move_on_after(ARRIVAL_SECONDS_MAX):
            await self.scorecard.wait_complete()
        card = self.scorecard
        assert card.faults == [], card.faults
        assert card.events_received == card.events_to_pass, f"{card.events_received} of {card.events_to_pass}"

    async def judge(self) -> None:
        """Nothing lost, nothing repeated, nothing else, in order; and the log holds the very bytes that were sent."""
        await self.caught_up()
        await self.books_balance()
        assert self.scorecard.faults == [], self.scorecard.faults
        assert (await self.relay.window())[1] - self.first_seq + 1 == self.scorecard.events_to_pass
        with trio.fail_after(ARRIVAL_SECONDS_MAX):
            async with connect(self.relay.api, f"?cursor={self.first_seq - 1}") as consumer:
                assert await consumer.frames(len(self.messages)) == self.messages

    async def books_balance(self) -> None:
        """Received is appended or dropped (invariant 10), in the life of each present worker; nothing is in flight."""
        with trio.move_on_after(BOOKS_SECONDS_MAX):
            while not (books := Books.of(await self.relay.scrape())).are_settled:  # noqa: ASYNC110 -- another process
                await trio.sleep(LOOK_EVERY_SECONDS)
        assert books.are_settled, books

    async def watch(self) -> None:
        """Consume until cancelled; a connection that ends is opened again after the last seq."""
        while True:
            try:
                async with connect(self.relay.api, f"?cursor={self.scorecard.last_seq}") as consumer:
                    while isinstance(message := await consumer.receive(), bytes):
                        self.messages.append(message)
                        self.scorecard.received(message)
                    self.endings.append(message)
            except (OSError, Refused, trio.BrokenResourceError):
                pass  # it is being started
            await trio.sleep(RECONNECT_SECONDS)


@asynccontextmanager
async def town(relay: RelayProcess, *, hosts: int, accounts: int, seed: int) -> AsyncGenerator[Town, None]:
    """Open a town, have the relay subscribe to all of it, and watch.

    When the test fails the relay's processes end too: what they still have in flight would come out in the next town.
    """
    made = Town(relay, hosts, accounts, seed)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(made.plc.serve, relay.plc))
            for host, port in zip(made.hosts, made.ports, strict=True):
                await nursery.start(partial(host.serve, port))
            for number in range(hosts):
                assert (await relay.request_crawl(f"http://{made.hostname(number)}")).status == 200
            await until(lambda: all(host.connections for host in made.hosts))
            made.first_seq = (await relay.window())[1] + 1
            made.scorecard.last_seq = made.first_seq - 1
            nursery.start_soon(made.watch)
            yield made
            nursery.cancel_scope.cancel()
    except BaseException:
        relay.end()
        raise
