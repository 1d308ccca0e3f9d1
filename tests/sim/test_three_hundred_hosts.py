"""Three hundred hosts, every tenth of them with the same trouble, and a relay that is left alone with them.

One process: an ingest worker whose writes run inline, hosts and directory on memory streams, two and a half hours on a
clock that jumps. In the end every honest host is read again although nobody did anything, and each row says what is so.
"""

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from relay.crawl.host import GAP_CURSOR, GAP_RESTART, GAP_SLOW
from relay.crawl.reading import BEHIND_MAX, STAND_SECONDS
from relay.crawl.settings import HostSettings, TierSettings
from relay.identity.settings import IdentitySettings
from relay.ingest.settings import IngestRoleSettings, IngestSettings
from relay.ingest.worker import Worker
from relay.net.consumer_socket import ConsumerSocket
from relay.net.exchange import Response
from relay.observe.metrics import Metrics
from relay.protocol.syntax import format_datetime
from relay.serve.explainhost import describe_host
from relay.serve.settings import ServeRoleSettings
from relay.store.hosts import HostRow
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.reasons import explain
from relay.verify.verdict import Reason
from relay.world.accounts import Account
from relay.world.host import SimulatedHost
from relay.world.messages import error_frame
from relay.world.network import Network, Shape
from relay.world.plc import PlcServer
from relay.world.window import websocket_message
from tests.sim.memorynet import Listener, MemoryNet, virtual_clock
from tests.support.log_reader import LogReader

HOSTS = 300
KINDS = ("plain", "dies", "restarts", "future", "silent", "slow", "lies", "relay", "crowded", "redirects")
HONEST = ("plain", "dies", "restarts", "future", "silent", "slow", "crowded")
START_MS = 1_760_000_000_000
LOG = LogSettings(sync=False, state_map_bytes=1 << 28, segment_bytes=256 << 20)
MINUTE, HOUR = 60.0, 3_600.0
CROWDED_LIMIT = 2
LIFE_SIGN_SECONDS = 80.0
CONTACT = "mailto:relay@example.org"
READ = "This relay reads the stream of the host"
BEGAN_ANEW = "read from the beginning once it is clear that its seqs began anew"
CROWDED = f"over its limit of {CROWDED_LIMIT} accounts on this relay since 2025-"
# What /explain/host says of each kind of host: before anybody tried them, in trouble, and after it all.
UNTRIED = "The host has not been tried yet"
IN_TROUBLE = {
    "plain": READ,
    "dies": "Connections to the host have failed many times in a row (",
    "restarts": BEGAN_ANEW,
    "future": "our place in its stream lies in its future",
    "silent": "in which nothing has come since",
    "slow": READ,
    "lies": explain(Reason.HOST_MISMATCH),
    "relay": "says of itself that it is a relay",
    "crowded": CROWDED,
    "redirects": "(HTTP status 302 instead of a WebSocket)",
}
IN_THE_END = IN_TROUBLE | dict.fromkeys(("dies", "restarts", "future", "silent"), READ)


class RawSocket:
    """The host's end of a connection by hand: it answers no ping, and a pong of its own shows that it lives.

    A library at both ends would spend a minute of real time on the pings of three hundred quiet connections.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def accept(self, head: bytes) -> None:
        key = next(line[19:] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
        proof = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        answer = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n"
        await self._stream.send_all(answer % proof)

    async def send_messages(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def close(self, code: int, reason: str = "") -> None:
        await self._stream.send_all(websocket_message(code.to_bytes(2, "big") + reason.encode(), opcode=8))
        await self._stream.aclose()

    async def close_with_error(self, frame: bytes, reason: str) -> None:
        await self.send_messages(websocket_message(frame))
        await self.close(1008, reason)

    async def live(self) -> None:
        while True:
            await trio.sleep(LIFE_SIGN_SECONDS)
            await self._stream.send_all(b"\x8a\x00")


class Host(SimulatedHost):
    """A simulated host that can also claim that every cursor lies in its future, and ignore cursors."""

    claims_future = False
    ignores_cursor = False

    async def _converse(self, stream: trio.abc.Stream, head: bytes, cursor: int | None) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            self.connections += 1
            try:
                socket = RawSocket(stream)
                await socket.accept(head)
                await stream.send_all(f"Server: {self._server}\r\n\r\n".encode())
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(socket.live)
                    await self._feed(cast("ConsumerSocket", socket), cursor)
                    nursery.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                self.connections -= 1
                self._scopes.remove(scope)

    async def _feed(self, socket: ConsumerSocket, cursor: int | None) -> None:
        if self.claims_future and cursor:
            await socket.close_with_error(error_frame("FutureCursor", "Cursor in the future."), "FutureCursor")
        else:
            await super()._feed(socket, 0 if self.ignores_cursor else cursor)


class Republic:
    """The hosts, their accounts and the relay's store; hosts of one kind are every tenth."""

    def __init__(self, store: Store, net: MemoryNet, hosts: int) -> None:
        self.store = store
        self.net = net
        self.now_ms = virtual_clock(START_MS)
        self.names = [f"{self.kind(number)}{number}.example.com" for number in range(hosts)]
        shape = Shape(records=0, lifecycle=0, quiet_ms=0)
        self.network = Network(7, [f"https://{name}" for name in self.names], hosts, START_MS, shape)
        self.hosts = [Host(server="atproto-relay/9" if self.kind(n) == "relay" else "pds") for n in range(hosts)]
        self.accounts: dict[int, list[Account]] = {number: [] for number in range(hosts)}
        for account in self.network.writers:
            self.accounts[account.host].append(account)

    def kind(self, number: int) -> str:
        return KINDS[number % len(KINDS)]

    def of_kind(self, *kinds: str) -> list[int]:
        return [number for number in range(len(self.names)) if self.kind(number) in kinds]

    def write(self, number: int) -> None:
        """One commit of an account of the host, sent by it; a liar sends it for somebody else's account."""
        owner = (number + 1) % len(self.names) if self.kind(number) == "lies" else number
        emission = self.network.write(self.accounts[owner][0], self.now_ms())
        self.hosts[number].emit(emission.message, self.now_ms())

    def crowd(self, number: int, accounts: int) -> None:
        """So many accounts more."""
        for _ in range(accounts):
            emissions = self.network.create_account(self.now_ms(), number)
            for emission in emissions:
                self.hosts[number].emit(emission.message, self.now_ms())

    def row(self, number: int) -> HostRow:
        with self.store.view() as view:
            row = view.host_named(self.names[number])
        assert row is not None
        return row

    def rows(self, *kinds: str) -> list[HostRow]:
        return [self.row(number) for number in self.of_kind(*kinds)]

    def explain(self, number: int) -> dict[str, Any]:
        """What the owner of the host is told."""
        row = self.row(number)
        with self.store.view() as view:
            notes = view.notes(row.host_id)
        return describe_host(row, notes, TOLD_UNDER, self.now_ms())

    def check_told(self, expected: dict[str, str]) -> None:
        """That the sentence for the kind of each host is in its summary."""
        for number in range(len(self.names)):
            summary = self.explain(number)["summary"]
            assert expected[self.kind(number)] in summary, (self.names[number], summary)


async def inline(write: Callable[..., Any], *arguments: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return write(*arguments)


SETTINGS = IngestRoleSettings(
    log=LOG,
    identity=IdentitySettings(plc_url="https://plc.example.com"),
    ingest=IngestSettings(mode="strict"),
    hosts=HostSettings(
        tiers={"default": TierSettings(), "crowded": TierSettings(hosts=("crowded*",), account_limit=CROWDED_LIMIT)}
    ),
)


TOLD_UNDER = ServeRoleSettings(log=LOG, hosts=SETTINGS.hosts, mode="strict", contact=CONTACT)


@asynccontextmanager
async def republic(folder: Path, hosts: int = HOSTS) -> AsyncIterator[Republic]:
    """The network, all its hosts known to the store; nobody reads them yet."""
    store = Store.open(folder / "data", LOG, create=True, now_ms=START_MS)
    made = Republic(store, MemoryNet(), hosts)
    try:
        async with trio.open_nursery() as nursery:
            await made.net.serve(nursery, "plc.example.com", PlcServer(made.network.directory).site)
            for number, name in enumerate(made.names):
                store.add_host(name, insecure=False, now_ms=START_MS)
                await made.net.serve(nursery, name, made.hosts[number].site)
            yield made
            nursery.cancel_scope.cancel()
    finally:
        store.close()


@asynccontextmanager
async def reading(made: Republic) -> AsyncIterator[Worker]:
    """A worker that follows them until the end of the block, where it is drained."""
    worker = Worker(SETTINGS, made.store, Metrics(), inline, dialer=made.net, now_ms=made.now_ms)
    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run, 0, 1, Listener(), drain)
        yield worker
        drain.set()


@pytest.mark.slow
@pytest.mark.timeout(600)  # twenty seconds of one core, which others may be using too
async def test_every_honest_host_is_read_again_by_itself_and_the_rows_say_what_is_so(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with republic(tmp_path) as made, reading(made):
        assert {row.status for row in made.rows(*KINDS)} == {"idle"}
        made.check_told(dict.fromkeys(KINDS, UNTRIED))
        for number in range(HOSTS):
            for _ in range(20 if made.kind(number) == "restarts" else 2):
                made.write(number)
        await trio.sleep(MINUTE)
        assert {row.status for row in made.rows(*HONEST)} == {"active"}
        trouble_begins(made)
        await trio.sleep(10 * MINUTE)
        while_in_trouble(made)
        await trio.sleep(50 * MINUTE)
        trouble_ends(made)
        await trio.sleep(1.2 * HOUR)
        before = {number: made.row(number).accepted for number in range(HOSTS)}
        for number in made.of_kind(*HONEST):
            made.write(number)
        await trio.sleep(2 * MINUTE)
        in_the_end(made, before)


def trouble_begins(made: Republic) -> None:
    for number in range(HOSTS):
        host = made.hosts[number]
        match made.kind(number):
            case "dies":
                made.net.dead.add(made.names[number])
                host.cut()
            case "restarts":
                host.window.restart()
                host.disconnect()
                if number % 20 == 2:
                    ignore_cursors(made, number)
            case "future":
                host.claims_future = True
                host.disconnect()
            case "silent":
                host.hush()
                made.write(number)
            case "slow":
                host.bytes_per_second = 10.0
                made.write(number)
            case "crowded":
                made.crowd(number, 5)
            case "redirects":
                host.refusal = Response(302, (("Location", "http://169.254.169.254/"),))
                host.cut()
            case _:
                made.write(number)


def ignore_cursors(made: Republic, number: int) -> None:
    """No FutureCursor from this one: it sends what it has, from the beginning."""
    made.hosts[number].ignores_cursor = True
    for _ in range(BEHIND_MAX + 2):
        made.write(number)


def while_in_trouble(made: Republic) -> None:
    assert {row.status for row in made.rows("dies", "redirects")} == {"offline"}
    assert {row.status for row in made.rows("future", "relay")} == {"idle"}
    made.check_told(IN_TROUBLE)


def trouble_ends(made: Republic) -> None:
    for number in range(HOSTS):
        host = made.hosts[number]
        match made.kind(number):
            case "dies":
                made.net.dead.discard(made.names[number])
            case "future":
                host.claims_future = False
            case "silent":
                host.speak()
            case "slow":
                host.bytes_per_second = 0.0


def in_the_end(made: Republic, before: dict[int, int]) -> None:
    made.check_told(IN_THE_END)
    for number in made.of_kind(*HONEST):
        row = made.row(number)
        assert (row.status, row.last_error) == ("active", ""), row
        assert row.accepted > before[number], row
        assert row.cursor == made.hosts[number].window.tip, row
    for row in made.rows("restarts"):
        assert (row.epoch, row.cursor_before, row.possible_gap) == (1, 20, GAP_RESTART)
    for number in made.of_kind("restarts"):
        told = made.explain(number)
        assert (told["possibleGap"]["name"], told["restarts"]) == (GAP_RESTART, {"epoch": 1, "cursorBefore": 20})
    for row in made.rows("dies", "future", "plain", "silent", "slow"):
        assert (row.epoch, row.possible_gap) == (0, "")
    for row in made.rows("crowded"):
        assert (row.account_count, row.throttled_count) == (2 * CROWDED_LIMIT, CROWDED_LIMIT)
        assert row.over_quota_ms > START_MS
        assert row.dropped["host_quota"] > 0
    for number in made.of_kind("crowded"):
        told, since = made.explain(number), format_datetime(made.row(number).over_quota_ms)
        assert (told["waitingAccounts"], told["contact"]) == (CROWDED_LIMIT, CONTACT)
        assert told["limitReached"]["since"] == told["overQuotaSince"] == since
        assert CONTACT in told["summary"]
    for row in made.rows("lies"):
        assert (row.status, row.accepted, row.account_count) == ("active", 0, 0)
        assert set(row.dropped) == {"host_mismatch"}
    for row in made.rows("relay"):
        assert (row.status, row.accepted) == ("idle", 0)
        assert "relay" in row.last_error
    for row in made.rows("redirects"):
        assert (row.status, "302" in row.last_error) == ("offline", True)
    assert "169.254.169.254" not in made.net.dials


async def test_a_limit_that_rises_lets_accounts_in_oldest_first_also_after_a_restart(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Checklist 254, 255: told once that they wait, once that they are in; throttles and limits are kept."""
    async with republic(tmp_path, hosts=9) as made:
        number = made.of_kind("crowded")[0]
        async with reading(made):
            made.write(number)
            made.crowd(number, 4)
            await trio.sleep(30)
            row = made.row(number)
            assert (row.account_count, row.throttled_count, row.dropped["account_throttled"] > 0) == (4, 2, True)
        with made.store.view() as view:
            waiting = view.throttled(row.host_id, 10)
        async with reading(made):
            await trio.sleep(30)
            assert made.row(number).throttled_count == 2
            made.store.update_host(row.host_id, account_limit=3)
            await trio.sleep(5)
            assert statuses(made.store, waiting) == ["", "throttled"]
            made.store.update_host(row.host_id, account_limit=4)
            await trio.sleep(5)
            assert statuses(made.store, waiting) == ["", ""]
            assert (made.row(number).throttled_count, made.row(number).over_quota_ms) == (0, 0)
        for did in waiting:
            said = [frame.payload for frame in LogReader(made.store).frames() if frame.payload.get("did") == did]
            said = [payload for payload in said if "active" in payload]
            assert [(payload["active"], payload.get("status")) for payload in said] == [
                (False, "throttled"),
                (True, None),
            ]


async def test_a_deleted_account_makes_room_and_a_host_over_its_rate_loses_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Checklist 252, 254: ten times the events of an hour all arrive, later; meanwhile the host is called throttled."""
    async with republic(tmp_path, hosts=9) as made, reading(made):
        crowded, plain = made.of_kind("crowded")[0], made.of_kind("plain")[0]
        made.write(crowded)
        made.crowd(crowded, 2)
        made.store.update_host(made.row(plain).host_id, rates={"per_second": 5, "per_hour": 20, "per_day": 1_000})
        await trio.sleep(20)
        assert made.row(crowded).throttled_count == 1
        for emission in made.network.delete(made.accounts[crowded][0], made.now_ms()):
            made.hosts[crowded].emit(emission.message, made.now_ms())
        for _ in range(60):
            made.write(plain)
        await trio.sleep(60)
        assert (made.row(crowded).account_count, made.row(crowded).throttled_count) == (2, 0)
        row = made.row(plain)
        assert (row.status, row.last_error) == ("throttled", "over its limit of 20 events an hour")
        assert "over its limit of 20 events an hour on this relay" in made.explain(plain)["summary"]
        assert made.explain(plain)["limits"]["eventsPerHour"] == 20
        await trio.sleep(4 * HOUR)
        row = made.row(plain)
        assert (row.accepted, row.status, row.last_error) == (60, "active", "")
        assert made.explain(plain)["limitReached"] is None


async def test_a_host_is_idle_until_it_takes_a_connection_and_active_from_then_on(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Sooner than a connection is taken for one that lasts, and without an event; and a dead one is never active."""
    async with republic(tmp_path, hosts=9) as made:
        plain, dead, relay = (made.of_kind(kind)[0] for kind in ("plain", "dies", "relay"))
        made.net.dead.add(made.names[dead])
        assert {row.status for row in made.rows(*KINDS)} == {"idle"}
        async with reading(made):
            await trio.sleep(STAND_SECONDS / 2)
            assert {number: made.row(number).status for number in (plain, dead, relay)} == {
                plain: "active",
                dead: "idle",
                relay: "idle",
            }
            assert READ in made.explain(plain)["summary"]
            assert "The last attempt to read the host ended (" in made.explain(dead)["summary"]
            assert IN_TROUBLE["relay"] in made.explain(relay)["summary"]


async def test_what_may_have_lost_events_is_kept_with_its_time(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Checklist 54: a host that cut us off as too slow, and one whose window no longer reaches back to our cursor."""
    async with republic(tmp_path, hosts=9) as made, reading(made):
        slow, outdated = made.of_kind("plain")[0], made.of_kind("silent")[0]
        for number in (slow, outdated):
            made.write(number)
        await trio.sleep(30)
        assert {made.row(number).possible_gap for number in (slow, outdated)} == {""}
        made.hosts[slow].plant(error_frame("ConsumerTooSlow", "could not keep up"))
        made.net.dead.add(made.names[outdated])
        made.hosts[outdated].cut()
        await trio.sleep(20)
        for _ in range(3):
            made.write(outdated)
        made.hosts[outdated].window.expire(4)
        made.net.dead.discard(made.names[outdated])
        await trio.sleep(5 * MINUTE)
        found = [made.row(number) for number in (slow, outdated)]
        assert [row.possible_gap for row in found] == [GAP_SLOW, GAP_CURSOR]
        assert all(row.possible_gap_ms > START_MS + 30_000 for row in found)
        assert [(row.status, row.last_error) for row in found] == [("active", "")] * 2


async def test_a_ban_ends_the_connection_and_its_end_begins_one_whatever_the_worker_reports(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Checklist 259, and a new place in the stream by an operator's word."""
    async with republic(tmp_path, hosts=9) as made, reading(made):
        number = made.of_kind("plain")[0]
        made.write(number)
        await trio.sleep(LIFE_SIGN_SECONDS + 10)
        host_id = made.row(number).host_id
        made.store.update_host(host_id, status="banned", since_ms=made.now_ms())
        await trio.sleep(LIFE_SIGN_SECONDS + 10)
        assert (made.hosts[number].connections, made.row(number).status) == (0, "banned")
        made.store.free_host(host_id, now_ms=made.now_ms())
        assert "about to connect to the host again" in made.explain(number)["summary"]
        await trio.sleep(LIFE_SIGN_SECONDS + 10)
        assert (made.hosts[number].connections, made.row(number).status) == (1, "active")
        made.store.update_host(host_id, cursor=0, epoch=made.row(number).epoch + 1, reconnect_ms=made.now_ms())
        await trio.sleep(LIFE_SIGN_SECONDS + 10)
        assert made.hosts[number].handshakes[-1].cursor == "0"
        assert (made.row(number).cursor, made.row(number).epoch) == (1, 1)


def statuses(store: Store, dids: list[str]) -> list[str]:
    with store.view() as view:
        return [account.local_status for did in dids if (account := view.account(did)) is not None]
