"""A verdict for everything: no event in any state raises, and what is accepted can be stored (design section 11).

Two sources. Wild values of the types that parsing guarantees; and commits that the account itself signed over trees,
slices and ops of an attacker's choice, which get past the signature to the steps behind it.
"""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.ingest.pipeline import judge_event
from relay.protocol.cid import DAG_CBOR_PREFIX, RAW_PREFIX
from relay.protocol.events import AccountEvent, AccountScoped, CommitEvent, IdentityEvent, RepoOp, SyncEvent
from relay.protocol.limits import UPSTREAM_SEQ_MAX
from relay.store.accounts import pack_account
from relay.verify.facts import AccountState, Facts, HostView, Identity
from relay.verify.modes import MODES
from relay.verify.reasons import explain
from relay.verify.verdict import Accept, Drop
from relay.world.car import car_slice
from relay.world.dagcbor import Link, cid_of, encode
from tests.support.altering import blocks_of, resigned, with_blocks
from tests.support.mutants import PATHS, RECORD, Victim
from tests.support.scene import NOW_MS

VICTIM = Victim(3, NOW_MS, "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
JUDGED_MS = NOW_MS + 60_000
BLOCKS = blocks_of(VICTIM.follow)
KNOWN = [*BLOCKS, cid_of(RECORD), Link(bytes(VICTIM.follow.payload["prevData"]))]  # type: ignore[arg-type]  # a link

tids = st.sampled_from(["2222222222222", VICTIM.base.rev, VICTIM.follow.rev, "3zzzzzzzzzzzz", "jzzzzzzzzzzzz"])
links = st.sampled_from(KNOWN) | st.binary(min_size=32, max_size=32).map(lambda digest: Link(DAG_CBOR_PREFIX + digest))
raw_links = st.binary(min_size=32, max_size=32).map(lambda digest: Link(RAW_PREFIX + digest))
seqs = st.integers(0, UPSTREAM_SEQ_MAX)
dids = st.sampled_from([VICTIM.did, VICTIM.stranger, "did:web:example.com"])
paths = st.sampled_from([*PATHS[:40], "com.example.note/new", ""]) | st.text(max_size=20)
ops = st.lists(
    st.builds(
        RepoOp,
        st.sampled_from(["create", "update", "delete", "move", ""]),
        paths,
        st.none() | links,
        st.none() | links | raw_links,
    ),
    max_size=6,
).map(tuple)
slices = st.binary(max_size=200) | st.builds(
    lambda root, blocks: car_slice(root, [(cid, BLOCKS[cid]) for cid in blocks]),
    st.sampled_from(list(BLOCKS)),
    st.lists(st.sampled_from(list(BLOCKS))),
)
events = st.one_of(
    st.builds(CommitEvent, seqs, dids, tids, st.none() | tids, links, st.none() | links, ops, slices),
    st.builds(SyncEvent, seqs, dids, tids, slices),
    st.builds(IdentityEvent, seqs, dids, st.none() | st.just("a.example.com")),
    st.builds(AccountEvent, seqs, dids, st.booleans(), st.none() | st.text("abc", max_size=8)),
)
hostnames = st.sampled_from(["pds.example.com", "b.example.com"])
hosts = st.builds(HostView, st.integers(1, 3), hostnames, st.integers(0, 2), st.sampled_from(MODES))
identities = st.builds(
    Identity,
    dids,
    st.none() | st.just(VICTIM.identity().key),
    st.none() | hostnames,
    st.just(NOW_MS),
    st.booleans(),
    st.booleans(),
)
digests = st.just(b"") | st.sampled_from([bytes(link)[4:] for link in KNOWN])
accounts = st.builds(
    AccountState,
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from(["", "deleted", "deactivated", "strange"]),
    st.sampled_from(["", "takendown", "throttled"]),
    st.just("") | tids,
    digests,
    digests,
    seqs,
    st.integers(0, 2),
    st.just(0),
)


def judge(event: AccountScoped, facts: Facts) -> None:
    """One verdict; whatever it is, it can be acted on."""
    verdict = judge_event(event, facts)
    if isinstance(verdict, Accept):
        pack_account(verdict.state, facts.account.version + 1)
        return
    drop = verdict if isinstance(verdict, Drop) else verdict.otherwise
    assert explain(drop.reason)
    assert len(drop.detail) < 200


@given(events, st.builds(Facts, identities, accounts, hosts, st.just(JUDGED_MS), st.booleans()))
@settings(max_examples=400, deadline=None)
def test_wild_events(event: Any, facts: Facts) -> None:
    judge(event, facts)


node_values = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=8) | st.text(max_size=4) | links,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["e", "l", "k", "p", "t", "v"]), inner),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {
        "k": st.sampled_from([path.encode() for path in PATHS[:8]]) | st.binary(max_size=12),
        "p": st.integers(0, 20),
        "t": st.none() | links,
        "v": links | raw_links,
    }
)
nodes = node_values | st.fixed_dictionaries({"e": st.lists(entries, max_size=4), "l": st.none() | links})


@given(
    st.data(),
    ops,
    st.none() | links,
    st.lists(nodes, max_size=3),
    st.sets(st.sampled_from(list(BLOCKS)[:-1])),
)
@settings(max_examples=300, deadline=None)
def test_what_an_account_signs_itself(
    data: st.DataObject, listed: Any, prev_data: Link | None, made: list[Any], gone: set[Link]
) -> None:
    """Trees, slices and ops as an attacker likes them, under a good signature."""
    strange = {cid_of(encode(node)): encode(node) for node in made}
    kept = {cid: block for cid, block in BLOCKS.items() if cid not in gone}
    root = data.draw(st.sampled_from([VICTIM.account.repo.tree.cid, *strange]))
    message = resigned(VICTIM, with_blocks(VICTIM.follow, {**strange, **kept}), lambda fields: fields.update(data=root))
    event = VICTIM.event(message)
    assert isinstance(event, CommitEvent)
    event = event._replace(ops=listed, prev_data=prev_data)
    host = HostView(1, "pds.example.com", 0, data.draw(st.sampled_from(MODES)))
    account = data.draw(st.sampled_from([AccountState(), VICTIM.known(rev=VICTIM.base.rev, data=bytes(32))]))
    judge(event, Facts(VICTIM.identity(), account, host, JUDGED_MS, refreshed=True))
