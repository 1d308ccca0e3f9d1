"""Hosts that send everything but sound events: no worker dies, every drop has its reason, the honest are not disturbed.

Each stranger who sends what ends a connection has a host of its own, so that all of them can do so at once; those whose
events are only dropped share one.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from relay.world.dagcbor import encode
from relay.world.host import SimulatedHost
from relay.world.messages import Message, account_message, error_frame, identity_message, info_frame
from relay.world.times import tid
from tests.support.processes import RelayProcess
from tests.support.town import Town, now_ms, town
from tests.support.until import until

pytestmark = pytest.mark.slow

HONEST, LIAR, FIRST_STRANGER = 0, 1, 2
COMMIT = encode({"op": 1, "t": "#commit"})
NOISE = random.Random(4)


class Fatal(NamedTuple):
    """Something after which a connection cannot go on. `reason` is None where no frame was received to be dropped."""

    name: str
    reason: str | None
    plant: Callable[[SimulatedHost], None]


def message(data: bytes) -> Callable[[SimulatedHost], None]:
    return lambda host: host.plant(data)


def wire(data: bytes) -> Callable[[SimulatedHost], None]:
    return lambda host: host.plant_bytes(data)


FATAL = (
    Fatal("not CBOR", "framing", message(b"\xff\xfe\xfd")),
    Fatal("nothing", "framing", message(b"")),
    Fatal("a header alone", "framing", message(COMMIT)),
    Fatal("two payloads", "framing", message(COMMIT + encode({}) + encode({}))),
    Fatal("a float", "framing", message(COMMIT + b"\xa1\x63seq\xfb\x40\x09\x21\xfb\x54\x44\x2d\x18")),
    Fatal("a tower of lists", "framing", message(COMMIT + b"\xa1\x61x" + b"\x81" * 200_000 + b"\x00")),
    Fatal("a length beyond the end", "framing", message(COMMIT + b"\xa1\x61x\x5b\x7f\xff\xff\xff\xff\xff\xff\xff")),
    Fatal("text", "message_not_binary", lambda host: host.plant(b'{"op":1}', text=True)),
    Fatal("a message too big", "message_too_big", message(bytes(5_000_001))),
    Fatal("a claim of 2^62 bytes", "message_too_big", wire(b"\x82\x7f" + (2**62).to_bytes(8, "big"))),
    Fatal("fragments without end", "message_too_big", wire(b"\x02\x00" + (b"\x00\x7e\xff\xff" + bytes(65_535)) * 80)),
    Fatal("an error frame", "upstream_error", message(error_frame("ConsumerTooSlow", "too slow"))),
    Fatal("an error nobody knows", "upstream_error", message(error_frame("x" * 50_000, ""))),
    Fatal("a reserved opcode", None, wire(b"\x83\x01a")),
    Fatal("a masked message", None, wire(b"\x82\x81\x00\x00\x00\x00a")),
    Fatal("noise", None, wire(b"\xf7" + NOISE.randbytes(100_000))),
)


def bad_commits(made: Town) -> list[tuple[str, Message]]:
    """Commits that are wrong in one way each, of accounts that write nothing else; the reason first."""

    def commit(**changes: Any) -> Message:
        made_message = made.network.create_account(now_ms(), LIAR)[2].message
        payload = {**made_message.payload, **changes}
        return made_message._replace(payload={key: value for key, value in payload.items() if value is not ...})

    def with_a_broken_block() -> Message:
        whole = commit()
        blocks = whole.payload["blocks"]
        assert isinstance(blocks, bytes)
        return whole._replace(payload={**whole.payload, "blocks": blocks[:-1] + bytes([blocks[-1] ^ 1])})

    op = {"action": "create", "path": "app.bsky.feed.post/3jui7kd54zh2y", "cid": None}
    other = made.network.create_account(now_ms(), LIAR)[2].message
    return [
        ("schema", commit(ops=...)),
        ("schema", commit(blocks="text")),
        ("seq_invalid", commit()),
        ("blocks_empty", commit(blocks=b"")),
        ("blocks_too_big", commit(blocks=bytes(2_000_001))),
        ("car_invalid", commit(blocks=bytes(100))),
        ("block_hash_mismatch", with_a_broken_block()),
        ("ops_too_many", commit(ops=[op] * 201)),
        ("did_invalid", commit(repo="did:PLC:")),
        ("did_unsupported", commit(repo="did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme")),
        ("rev_invalid", commit(rev="not a tid")),
        ("rev_in_future", commit(rev=tid((now_ms() + 3_600_000) * 1000))),
        ("commit_did_mismatch", commit(blocks=other.payload["blocks"], commit=other.payload["commit"])),
        ("signature_invalid", signed_by_another(made)),
    ]


def signed_by_another(made: Town) -> Message:
    made.network.create_account(now_ms(), LIAR)
    *_, one, other = made.network.writers
    return one.repo.commit([], other.key, now_ms())


def lie(made: Town) -> Counter[str]:
    """Everything that is dropped without ending the connection; what has to be counted."""
    host = made.hosts[LIAR]
    expected: Counter[str] = Counter()
    for reason, bad in bad_commits(made):
        if reason == "seq_invalid":
            host.plant(COMMIT + encode(bad.payload))
        else:
            host.emit(bad, now_ms())
        expected[reason] += 1
    one, other = made.network.writers[HONEST], made.network.writers[FIRST_STRANGER]
    for forged in (account_message(one.did, "deleted"), identity_message(other.did, "taken.example.com")):
        host.emit(forged, now_ms())
        expected["host_mismatch"] += 1
    host.plant(account_message(made.network.writers[LIAR].did).frame(1, now_ms()))
    host.plant(encode({"op": 1, "t": "#unheard"}) + encode({}))
    host.plant(encode({"op": 7}) + encode({}))
    host.plant(info_frame("OutdatedCursor", "you missed some"))
    return expected + Counter(seq_not_increasing=1, unknown_type=1, unknown_op=1, upstream_info=1)


async def test_hostile_hosts_kill_no_worker_and_disturb_no_honest_host(relay: RelayProcess) -> None:
    """Invariant 9: bytes from outside end a connection at most."""
    hosts = FIRST_STRANGER + len(FATAL)
    async with town(relay, hosts=hosts, accounts=hosts, seed=41) as made:
        accounts = made.network.writers
        for account in accounts:
            made.write(account)
        await made.caught_up()
        pids, before = relay.pids(), (await relay.scrape()).dropped()

        expected = lie(made)
        made.write(accounts[HONEST])
        for number, fatal in enumerate(FATAL, FIRST_STRANGER):
            fatal.plant(made.hosts[number])
            made.write(accounts[HONEST])
            if fatal.reason:
                expected[fatal.reason] += 1
        strangers = made.hosts[FIRST_STRANGER:]
        await until(lambda: all(len(host.handshakes) == 2 and host.connections == 1 for host in strangers))
        for account in accounts:
            made.write(account)

        await made.judge()
        assert (await relay.scrape()).dropped() - before == expected
        assert relay.pids() == pids
        assert not list(relay.lines("worker_died"))
        assert [len(made.hosts[number].handshakes) for number in (HONEST, LIAR)] == [1, 1]
