"""The mix of the simulated network: its proportions, its stories, and that an ideal relay agrees with each outcome."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from relay.world.dagcbor import encode
from relay.world.keys import multikey
from relay.world.network import Emission, Network, Shape
from tests.world.slices import invert, read_block, read_car, read_frame
from tests.world.test_keys import openssl_verify

NOW_MS = 1_750_000_000_000
HOSTS = ("http://localhost:1001", "http://localhost:1002", "http://localhost:1003")
SMALL = Shape(records=300, layer_min=0)
LIVELY = SMALL._replace(lifecycle=0.1, quiet_ms=200)


def run(network: Network, steps: int, step_ms: int = 5) -> Iterator[tuple[int, Emission]]:
    """Every emission of `steps` steps with its time."""
    for number in range(steps):
        now_ms = NOW_MS + number * step_ms
        for emission in network.step(now_ms):
            yield now_ms, emission


def frames(seed: int, shape: Shape) -> list[tuple[int, bytes]]:
    emissions = run(Network(seed, HOSTS, 12, NOW_MS, shape), 400)
    return [(emission.host, emission.message.frame(seq, now)) for seq, (now, emission) in enumerate(emissions, 1)]


def test_one_seed_gives_the_same_bytes() -> None:
    assert frames(1, LIVELY) == frames(1, LIVELY)
    assert frames(1, LIVELY) != frames(2, LIVELY)


def test_writes_have_the_proportions_of_the_network() -> None:
    """96 % of ops are creates, 99 % of commits have one op (field.md)."""
    actions: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    for _, emission in run(Network(1, HOSTS, 12, NOW_MS, SMALL._replace(lifecycle=0)), 3000):
        ops: Any = emission.message.payload["ops"]
        sizes[len(ops)] += 1
        actions.update(op["action"] for op in ops)

    assert 0.94 < actions["create"] / actions.total() < 0.98
    assert min(actions["update"], actions["delete"]) > 20
    assert 0.98 < sizes[1] / sizes.total() < 0.998
    assert max(sizes) > 3


def test_every_host_and_account_has_its_share() -> None:
    emissions = [emission for _, emission in run(Network(1, HOSTS, 12, NOW_MS, SMALL), 1200)]

    assert min(Counter(emission.host for emission in emissions).values()) > 250
    assert len({emission.message.did for emission in emissions}) >= 12


class IdealRelay:
    """Judges emissions in the order they are made, against the directory of that moment. Nothing is stale here."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.revs: dict[str, str] = {}
        self.data: dict[str, bytes] = {}
        self.commits: dict[str, bytes] = {}
        self.inactive: set[str] = set()

    def accepts(self, emission: Emission) -> bool:
        message = emission.message
        document: Any = self.network.directory.document(message.did)
        if document["service"][0]["serviceEndpoint"] != HOSTS[emission.host]:
            return False
        if message.type == "#account":
            (self.inactive.discard if message.payload["active"] else self.inactive.add)(message.did)
        if message.type in {"#account", "#identity"}:
            return True
        return message.did not in self.inactive and self._accepts_content(emission, document)

    def _accepts_content(self, emission: Emission, document: Any) -> bool:
        payload = read_frame(emission.message.frame(1, NOW_MS)).payload
        root, pairs = read_car(payload["blocks"])
        blocks = dict(pairs)
        commit = read_block(blocks[root])
        did, rev = commit["did"], commit["rev"]
        if rev != payload["rev"]:
            return False
        if emission.message.type == "#sync" and root == self.commits.get(did):
            return True  # it repeats what is known
        if rev <= self.revs.get(did, ""):
            return False
        self.commits[did] = root
        self._verify(document, commit)
        if emission.message.type == "#commit":
            before = invert(commit["data"], blocks, payload["ops"])
            assert before == payload.get("prevData", before)
            assert before == self.data.get(did, before)
            assert payload["since"] == self.revs.get(did, payload["since"])
        self.revs[did], self.data[did] = rev, commit["data"]
        return True

    def _verify(self, document: Any, commit: dict[str, Any]) -> None:
        """The signature, by the key that the document names."""
        sig = commit.pop("sig")
        keys = [account.key for account in self.network.writers + self.network.waiting if account.did == commit["did"]]
        assert [multikey(key) for key in keys] == [document["verificationMethod"][0]["publicKeyMultibase"]]
        openssl_verify(keys[0], hashlib.sha256(encode(commit)).digest(), sig)


def test_an_ideal_relay_passes_exactly_what_is_marked_to_pass() -> None:
    """Signature, inversion, chain, host and status of 2,500 steps full of stories; every kind of message occurs."""
    network = Network(3, HOSTS, 12, NOW_MS, LIVELY)
    relay = IdealRelay(network)
    seen: Counter[tuple[str, bool]] = Counter()
    for _, emission in run(network, 2500):
        assert relay.accepts(emission) == emission.passes, emission.message
        seen[emission.message.type, emission.passes] += 1

    assert seen["#commit", False] == 0
    for kind in ("#commit", "#sync", "#identity", "#account"):
        assert seen[kind, True] > 20
    assert min(seen["#sync", False], seen["#account", False]) > 10


def test_the_ideal_relay_notices_a_wrong_key() -> None:
    """The judge above can fail."""
    network = Network(3, HOSTS, 1, NOW_MS, SMALL._replace(lifecycle=0))
    (account,) = network.writers
    emission = network.write(account, NOW_MS)
    network.rotate(account, NOW_MS)

    with pytest.raises(InvalidSignature):
        IdealRelay(network).accepts(emission)


def test_accounts_are_silent_around_a_story() -> None:
    """Between an account's last event before a change of key or host and the change lie `quiet_ms`."""
    network = Network(4, HOSTS, 12, NOW_MS, LIVELY)
    last: dict[str, int] = {}
    checked = 0
    for now_ms, emission in run(network, 1500):
        did = emission.message.did
        if emission.message.type == "#identity" and did in last:
            assert now_ms - last[did] >= LIVELY.quiet_ms
            checked += 1
        last[did] = now_ms
    assert checked > 20


def test_a_new_account_introduces_itself_as_a_real_pds_does() -> None:
    network = Network(5, HOSTS, 1, NOW_MS, SMALL)
    emissions = network.create_account(NOW_MS, host=2)

    assert [emission.message.type for emission in emissions] == ["#identity", "#account", "#commit", "#sync"]
    assert {emission.host for emission in emissions} == {2}
    assert emissions[2].message.rev == emissions[3].message.rev
    assert all(emission.passes for emission in emissions)


def test_a_migrated_account_commits_at_its_new_host_with_its_new_key() -> None:
    network = Network(6, HOSTS, 1, NOW_MS, SMALL._replace(lifecycle=0))
    (account,) = network.writers
    network.write(account, NOW_MS)
    old_host, old_key = account.host, account.key
    emissions = network.migrate(account, NOW_MS + 1)
    document: Any = network.directory.document(account.did)

    assert {emission.host for emission in emissions} == {account.host} != {old_host}
    assert account.key is not old_key
    assert document["verificationMethod"][0]["publicKeyMultibase"] == multikey(account.key)
    assert [(emission.message.type, emission.passes) for emission in emissions] == [
        ("#identity", True),
        ("#account", True),
        ("#sync", False),
        ("#commit", True),
    ]
    assert account not in network.writers
    (farewell,) = network.step(NOW_MS + 1 + SMALL.quiet_ms)
    assert (farewell.host, farewell.message.payload["active"], farewell.passes) == (old_host, False, False)
    assert account in network.writers


def test_the_directory_can_lag() -> None:
    """A lagging copy still names the old key; caught up, the new one. A tombstone is None, a stranger raises."""
    network = Network(7, HOSTS, 1, NOW_MS, SMALL)
    (account,) = network.writers
    old = network.directory.document(account.did)
    network.directory.lag()
    network.rotate(account, NOW_MS)

    assert network.directory.document(account.did) == old
    network.directory.catch_up()
    assert network.directory.document(account.did) != old
    network.directory.tombstone(account.did)
    assert network.directory.document(account.did) is None
    assert network.directory.documents() == {}
    with pytest.raises(KeyError):
        network.directory.document("did:plc:" + "a" * 24)


def test_about_one_account_in_twenty_has_the_other_curve() -> None:
    network = Network(8, HOSTS, 400, NOW_MS, Shape(records=0))
    curves: dict[str, int] = defaultdict(int)
    for account in network.writers:
        curves[account.key.curve] += 1

    assert 8 <= curves["p256"] <= 36
