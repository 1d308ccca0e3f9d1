"""One simulated account and what a relay knows of it: events for verification, made by the independent world."""

import random
from typing import Any

from relay.ingest.pipeline import read_message
from relay.protocol.events import AccountScoped
from relay.protocol.frame import MessageFrame
from relay.protocol.multikey import PublicKey
from relay.verify.facts import NO_ACCOUNT, AccountState, Facts, HostView, Identity
from relay.world.accounts import Account, new_account
from relay.world.keys import Curve, make_key
from relay.world.messages import Message
from relay.world.records import random_path, random_record
from relay.world.repo import Write

NOW_MS = 1_760_000_000_000
HOME = HostView(host_id=1, hostname="pds.example.com", epoch=0, mode="ratchet")
ELSEWHERE = HostView(host_id=2, hostname="other.example.com", epoch=0, mode="ratchet")


class Scene:
    """An account on the host `HOME`, seeded; its clock is `NOW_MS`."""

    def __init__(self, seed: int = 1, curve: Curve = "k256") -> None:
        self.rng = random.Random(seed)
        self.account: Account = new_account(self.rng, 0)
        self.account.key = make_key(self.rng, curve)
        self.seq = 0

    @property
    def did(self) -> str:
        return self.account.did

    def write(self, count: int = 1, now_ms: int = NOW_MS) -> Message:
        """The `#commit` of some creates."""
        writes = []
        for _ in range(count):
            path = random_path(self.rng, now_ms * 1000 + self.rng.randrange(1000))
            writes.append(Write(path, random_record(self.rng, path.partition("/")[0], now_ms)))
        return self.account.repo.commit(writes, self.account.key, now_ms)

    def identity(self, **changes: Any) -> Identity:
        """What the DID resolves to."""
        return Identity(self.did, public_key(self.account), HOME.hostname, NOW_MS)._replace(**changes)

    def facts(self, account: AccountState = NO_ACCOUNT, **changes: Any) -> Facts:
        """What an event of `HOME` is judged by now, its document read afresh."""
        return Facts(self.identity(), account, HOME, NOW_MS, refreshed=True)._replace(**changes)

    def event(self, message: Message, seq: int | None = None, time_ms: int = NOW_MS) -> AccountScoped:
        """The message as it is received."""
        return self.received(message, seq, time_ms)[0]

    def received(
        self, message: Message, seq: int | None = None, time_ms: int = NOW_MS
    ) -> tuple[AccountScoped, MessageFrame]:
        self.seq = self.seq + 1 if seq is None else seq
        read = read_message(message.frame(self.seq, time_ms))
        assert isinstance(read[1], MessageFrame), read
        return read

    def stored(self, **changes: Any) -> AccountState:
        """The row as it is once the account's last commit was accepted."""
        repo = self.account.repo
        assert repo.last_commit is not None
        digests = {"data": bytes(repo.tree.cid)[4:], "commit": bytes(repo.last_commit.cid)[4:]}
        return self.known(rev=repo.rev, **digests)._replace(**changes)

    def known(self, **changes: Any) -> AccountState:
        """A row as it would be before the next event."""
        return NO_ACCOUNT._replace(version=1, host_id=HOME.host_id, **changes)


def public_key(account: Account) -> PublicKey:
    """The account's signing key as its document would give it."""
    return PublicKey(account.key.curve, account.key.point)
