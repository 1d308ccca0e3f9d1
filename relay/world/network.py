"""The life of a simulated network: an endless, seeded mix of events with the proportions of the real one.

Owns which account does what next, and keeps the directory in step. Owns no clock and no socket: each step gets the time
and answers what which host emits, together with whether a correct relay passes it on. Proportions and sizes are those
of field.md, "The network in figures".
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.world.accounts import Account, did_document, new_account, new_key
from relay.world.directory import Directory
from relay.world.messages import Message, account_message, identity_message
from relay.world.records import random_path, random_record, seeded_tree
from relay.world.repo import Write
from relay.world.times import tid
from relay.world.treewalk import nth

_AGE_US = 3_600_000_000
"""How long ago the accounts that exist at the start wrote last."""


class Shape(NamedTuple):
    """Proportions and sizes of a network. The defaults give commits of the real network's shape.

    `records` are in each account's repo at the start; the accounts share `templates` such trees, which are cut so that
    a path has at least `layer_min` + 1 nodes. `lifecycle` is the share of steps that begin something else than a write.
    Before and inside such a story an account is silent for `quiet_ms`, so that what a relay sees of two hosts cannot
    overtake each other and each emission has one right outcome.
    """

    records: int = 14_000
    layer_min: int = 7
    templates: int = 3
    create_share: float = 0.96
    update_share: float = 0.015
    single_share: float = 0.99
    ops_max: int = 8
    lifecycle: float = 0.005
    quiet_ms: int = 2_000


class Emission(NamedTuple):
    """One event leaving a host. `passes` says whether a relay that heard everything before must pass it on."""

    host: int
    message: Message
    passes: bool = True


Story = Callable[[Account, int], list[Emission]]


class Network:
    """Hosts by number, accounts on them, and the directory that says so."""

    def __init__(
        self,
        seed: int,
        hosts: Sequence[str],
        accounts: int,
        now_ms: int,
        shape: Shape = Shape(),  # noqa: B008 -- immutable
    ) -> None:
        self.hosts = tuple(hosts)
        self.directory = Directory()
        self._rng = random.Random(seed)
        self._shape = shape
        trees = [
            seeded_tree(self._rng, shape.records, now_ms, layer_min=shape.layer_min)
            for _ in range(min(shape.templates, accounts) if shape.records else 0)
        ]
        self._due: list[tuple[int, Story, Account]] = []
        self._writers: list[Account] = []
        for index in range(accounts):
            tree = trees[index % len(trees)] if trees else None
            rev = tid(now_ms * 1000 - _AGE_US) if trees else ""
            self._settle(new_account(self._rng, index % len(hosts), tree, rev))

    @property
    def writers(self) -> tuple[Account, ...]:
        """The accounts that may write now: active, and in no story."""
        return tuple(self._writers)

    @property
    def waiting(self) -> tuple[Account, ...]:
        """The accounts that are silent because their story goes on later."""
        return tuple(account for _, _, account in self._due)

    def step(self, now_ms: int) -> list[Emission]:
        """The next thing that happens: usually one commit, at times an account's change with all its messages."""
        for index, (due_ms, story, account) in enumerate(self._due):
            if due_ms <= now_ms:
                del self._due[index]
                return story(account, now_ms)
        if self._rng.random() < self._shape.lifecycle or not self._writers:
            return self._begin(now_ms)
        return [self.write(self._rng.choice(self._writers), now_ms)]

    def write(self, account: Account, now_ms: int) -> Emission:
        """One commit of `account` in the network's proportions."""
        single = self._rng.random() < self._shape.single_share
        count = 1 if single else self._rng.randint(2, self._shape.ops_max)
        writes = {write.path: write for write in (self._random_write(account, now_ms) for _ in range(count))}
        return Emission(account.host, account.repo.commit(list(writes.values()), account.key, now_ms))

    def create_account(self, now_ms: int, host: int | None = None) -> list[Emission]:
        """A new, empty account. Its `#sync` repeats its first commit, which changes nothing and passes."""
        account = new_account(self._rng, self._rng.randrange(len(self.hosts)) if host is None else host)
        self._settle(account)
        first = account.repo.commit([], account.key, now_ms)
        return [
            Emission(account.host, identity_message(account.did, account.handle)),
            Emission(account.host, account_message(account.did)),
            Emission(account.host, first),
            Emission(account.host, account.repo.sync()),
        ]

    def rotate(self, account: Account, now_ms: int) -> list[Emission]:
        """A new signing key; the commit it signs is told by `#sync` alone, as a real PDS does."""
        account.key = new_key(self._rng)
        self._settle(account)
        return [
            Emission(account.host, identity_message(account.did, account.handle)),
            Emission(account.host, account.repo.resign(account.key, now_ms)),
        ]

    def migrate(self, account: Account, now_ms: int) -> list[Emission]:
        """To another host, with a new key. The old host's farewell follows later and is no longer its business.

        The new host's `#sync` carries a foreign rev and a commit of the old key, as a real PDS sends it; the next
        commit chains to the old state.
        """
        old_host, repo = account.host, account.repo
        account.host = (old_host + self._rng.randrange(1, max(2, len(self.hosts)))) % len(self.hosts)
        odd_sync = [repo.sync(rev=tid(now_ms * 1000 - 1))] if repo.last_commit is not None else []
        account.key = new_key(self._rng)
        self._settle(account)
        arrival = [
            Emission(account.host, identity_message(account.did, account.handle)),
            Emission(account.host, account_message(account.did)),
            *(Emission(account.host, message, passes=False) for message in odd_sync),
            self.write(account, now_ms),
        ]
        if account.host != old_host:
            self._later(now_ms, lambda gone, _: self._farewell(gone, old_host), account)
        return arrival

    def deactivate(self, account: Account, now_ms: int) -> list[Emission]:
        """The account pauses and comes back after the quiet time."""
        self._later(now_ms, self.reactivate, account)
        return [Emission(account.host, account_message(account.did, "deactivated"))]

    def reactivate(self, account: Account, now_ms: int) -> list[Emission]:
        """The account is back and says so with an empty commit."""
        self._settle(account)
        return [
            Emission(account.host, account_message(account.did)),
            Emission(account.host, account.repo.commit([], account.key, now_ms)),
        ]

    def delete(self, account: Account, now_ms: int) -> list[Emission]:
        """The account is gone for good; another one takes its place, so that the network keeps its size."""
        self._later(now_ms, lambda _, then_ms: self.create_account(then_ms), account)
        return [Emission(account.host, account_message(account.did, "deleted"))]

    def _farewell(self, account: Account, old_host: int) -> list[Emission]:
        """The old host reports its copy as deactivated; it is not that account's host any more (checklist 162)."""
        self._settle(account)
        return [Emission(old_host, account_message(account.did, "deactivated"), passes=False)]

    def _begin(self, now_ms: int) -> list[Emission]:
        """Picks a story and, unless it is a birth, an account that falls silent until it is told."""
        stories: list[Story] = [self.rotate, self.migrate, self.deactivate, self.delete]
        chosen = self._rng.randrange(len(stories) + 1)
        if chosen == len(stories) or len(self._writers) < 2:
            return self.create_account(now_ms)
        self._later(now_ms, stories[chosen], self._rng.choice(self._writers))
        return []

    def _later(self, now_ms: int, story: Story, account: Account) -> None:
        if account in self._writers:
            self._writers.remove(account)
        self._due.append((now_ms + self._shape.quiet_ms, story, account))

    def _settle(self, account: Account) -> None:
        """The directory says what is so, and the account may write."""
        self.directory.put(account.did, did_document(account, self.hosts[account.host]))
        if account not in self._writers:
            self._writers.append(account)

    def _random_write(self, account: Account, now_ms: int) -> Write:
        rng, tree, kind = self._rng, account.repo.tree, self._rng.random()
        if kind < self._shape.create_share or not tree.count:
            path = random_path(rng, now_ms * 1000 + rng.randrange(1000))
            return Write(path, random_record(rng, path.partition("/")[0], now_ms))
        path = nth(tree, rng.randrange(tree.count)).decode()
        if kind < self._shape.create_share + self._shape.update_share:
            return Write(path, random_record(rng, path.partition("/")[0], now_ms))
        return Write(path, None)
