"""The verdict on `#commit` and `#sync` up to the signature (protocol.md section 14, steps 6 to 11).

Events come from the independent world; what is altered here is altered in its messages, before they are framed.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pytest

from relay.protocol.events import CommitEvent, SyncEvent
from relay.verify.commit import judge_commit
from relay.verify.facts import NO_ACCOUNT, REPEATED, AccountState, Facts, HostView, Identity
from relay.verify.sync import judge_sync
from relay.verify.verdict import Accept, Drop, Reason, Recheck, Refresh, Verdict
from relay.world.car import car_slice
from relay.world.dagcbor import Link, Value, cid_of, encode
from relay.world.keys import Curve
from relay.world.messages import Message
from relay.world.repo import Write
from relay.world.times import tid
from tests.support.altering import altered, resigned
from tests.support.scene import ELSEWHERE, HOME, NOW_MS, Scene


def judge(
    scene: Scene,
    message: Message,
    account: AccountState = NO_ACCOUNT,
    identity: Identity | None = None,
    *,
    host: HostView = HOME,
    now_ms: int = NOW_MS,
    refreshed: bool = True,
    seq: int | None = None,
) -> Verdict:
    event = scene.event(message, seq)
    facts = Facts(identity or scene.identity(), account, host, now_ms, refreshed)
    if isinstance(event, CommitEvent):
        return judge_commit(event, facts)
    assert isinstance(event, SyncEvent)
    return judge_sync(event, facts)


def reason(verdict: Verdict) -> Reason:
    assert isinstance(verdict, Drop), verdict
    return verdict.reason


def content(scene: Scene, kind: str) -> Message:
    """A `#commit`, or the `#sync` of one."""
    commit = scene.write()
    return commit if kind == "commit" else scene.account.repo.sync()


KINDS = pytest.mark.parametrize("kind", ["commit", "sync"])


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_a_signed_commit_passes_and_leaves_its_state(curve: Curve) -> None:
    """Checklist 128, 133."""
    scene = Scene(curve=curve)
    message = scene.write()
    verdict = judge(scene, message, seq=77)

    assert isinstance(verdict, Accept)
    commit = scene.account.repo.last_commit
    assert commit is not None
    assert verdict.state == NO_ACCOUNT._replace(
        host_id=HOME.host_id,
        rev=commit.rev,
        data=bytes(scene.account.repo.tree.cid)[4:],
        commit=bytes(commit.cid)[4:],
        upstream_seq=77,
    )


def test_a_newer_sync_passes_and_replaces_the_state() -> None:
    """Checklist 218, 219: whatever came before, the next commit chains on it."""
    scene = Scene()
    scene.write()
    before = scene.known(rev="2222222222222", data=b"\x01" * 32, commit=b"\x02" * 32)
    verdict = judge(scene, scene.account.repo.resign(scene.account.key, NOW_MS), before, seq=9)

    assert verdict == Accept(scene.stored(upstream_seq=9))
    following = judge(scene, scene.write(), verdict.state, seq=10)
    assert isinstance(following, Accept)
    assert not following.chain_break
    assert not following.since_differs


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"did": "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}, Reason.COMMIT_DID_MISMATCH),
        ({"rev": "3jzfcijpj2z2a"}, Reason.COMMIT_REV_MISMATCH),
        ({"version": 2}, Reason.COMMIT_INVALID),
        ({"sig": b"\x01" * 64}, Reason.SIGNATURE_INVALID),
    ],
)
def test_the_commit_of_a_sync_is_signed_and_its_own(change: Mapping[str, Value], expected: Reason) -> None:
    """Checklist 219, 125, 126, 136."""
    scene = Scene()
    scene.write()
    sync = scene.account.repo.resign(scene.account.key, NOW_MS)
    assert isinstance(judge(scene, resigned(scene, sync)), Accept)
    assert reason(judge(scene, resigned(scene, sync, lambda fields: fields.update(change)))) is expected


def test_what_was_settled_before_is_replayed_only_for_its_own_host_and_epoch() -> None:
    scene = Scene()
    message = scene.write()
    settled = scene.known(upstream_seq=10)

    assert reason(judge(scene, message, settled, seq=10)) is Reason.REPLAYED
    assert isinstance(judge(scene, message, settled, seq=11), Accept)
    assert isinstance(judge(scene, message, settled._replace(epoch=1), seq=10), Accept)
    assert isinstance(judge(scene, message, settled._replace(host_id=9), seq=10), Accept)


@KINDS
def test_another_host_is_refused_after_one_refresh(kind: str) -> None:
    """Checklist 161, 163."""
    scene = Scene()
    message = content(scene, kind)

    first = judge(scene, message, host=ELSEWHERE, refreshed=False)
    assert first == Refresh(judge(scene, message, host=ELSEWHERE, refreshed=True))  # type: ignore[arg-type]  # a Drop
    assert reason(judge(scene, message, host=ELSEWHERE)) is Reason.HOST_MISMATCH


@KINDS
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"host": None}, Reason.IDENTITY_INCOMPLETE),
        ({"key": None}, Reason.IDENTITY_INCOMPLETE),
        ({"tombstone": True, "host": None, "key": None}, Reason.IDENTITY_TOMBSTONED),
    ],
)
def test_an_identity_that_does_not_function_lets_no_content_pass(
    changes: Mapping[str, Any], expected: Reason, kind: str
) -> None:
    """Checklist 139, 145, 156."""
    scene = Scene()
    message = content(scene, kind)

    assert reason(judge(scene, message, identity=scene.identity(**changes))) is expected
    assert isinstance(judge(scene, message, identity=scene.identity(**changes), refreshed=False), Refresh)


def test_a_stale_document_is_read_again_before_it_is_used() -> None:
    """Checklist 184."""
    scene = Scene()
    message = scene.write()

    assert isinstance(judge(scene, message, identity=scene.identity(stale=True), refreshed=False), Refresh)
    assert isinstance(judge(scene, message, identity=scene.identity(stale=True), refreshed=True), Accept)


@KINDS
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"local_status": "takendown"}, Reason.ACCOUNT_TAKENDOWN),
        ({"local_status": "suspended"}, Reason.ACCOUNT_TAKENDOWN),
        ({"local_status": "throttled"}, Reason.ACCOUNT_THROTTLED),
    ],
)
def test_inactive_accounts_let_no_content_pass(changes: Mapping[str, Any], expected: Reason, kind: str) -> None:
    """Checklist 170."""
    scene = Scene()
    assert reason(judge(scene, content(scene, kind), scene.known(**changes))) is expected


@KINDS
@pytest.mark.parametrize("status", ["deactivated", "deleted", ""])
def test_content_of_an_account_that_its_host_called_inactive_waits_for_the_host_to_be_asked(
    status: str, kind: str
) -> None:
    """Checklist 170, 171."""
    scene = Scene()
    verdict = judge(scene, content(scene, kind), scene.known(upstream_active=False, upstream_status=status))
    assert isinstance(verdict, Recheck)
    assert verdict.otherwise.reason is Reason.ACCOUNT_INACTIVE


@pytest.mark.parametrize("status", ["desynchronized", "throttled", "frozen"])
def test_a_status_beside_active_does_not_stop_content(status: str) -> None:
    """Checklist 177."""
    scene = Scene()
    assert isinstance(judge(scene, scene.write(), scene.known(upstream_status=status)), Accept)


def test_a_sync_of_the_stored_commit_passes_once_and_changes_nothing() -> None:
    """Checklist 191, as ruled: hosts announce new accounts so. What comes again, or under its rev, is a rewind."""
    scene = Scene()
    verdict = judge(scene, scene.write())
    assert isinstance(verdict, Accept)
    stored = verdict.state._replace(version=1, upstream_seq=0)
    again = judge(scene, scene.account.repo.sync(), stored, seq=9)

    assert again == Accept(stored._replace(upstream_seq=9, flags=REPEATED))
    assert reason(judge(scene, scene.account.repo.sync(), again.state, seq=10)) is Reason.REV_NOT_NEWER
    other = stored._replace(commit=b"\x01" * 32)
    assert reason(judge(scene, scene.account.repo.sync(), other)) is Reason.REV_NOT_NEWER
    following = judge(scene, scene.write(), again.state, seq=11)
    assert isinstance(following, Accept)
    assert isinstance(judge(scene, scene.account.repo.sync(), following.state, seq=12), Accept)


@KINDS
def test_revs_only_rise(kind: str) -> None:
    """Checklist 190, 191."""
    scene = Scene()
    message = content(scene, kind)
    rev = message.rev

    assert reason(judge(scene, message, scene.known(rev=rev))) is Reason.REV_NOT_NEWER
    assert reason(judge(scene, message, scene.known(rev="j" + rev[1:]))) is Reason.REV_NOT_NEWER
    assert isinstance(judge(scene, message, scene.known(rev=tid(NOW_MS * 1000 - 1, 0))), Accept)


def test_revs_may_be_a_little_ahead_of_the_clock() -> None:
    """Checklist 192: 5 minutes pass, a millisecond more does not."""
    scene = Scene()
    message = scene.write(now_ms=NOW_MS + 300_000)

    assert isinstance(judge(scene, message, now_ms=NOW_MS), Accept)
    assert reason(judge(scene, message, now_ms=NOW_MS - 1)) is Reason.REV_IN_FUTURE


def test_a_rev_with_its_highest_bit_set_is_in_the_future() -> None:
    """Checklist 194: no overflow."""
    scene = Scene()
    message = resigned(scene, scene.write()._replace(rev="jzzzzzzzzzzzz"))
    assert reason(judge(scene, altered(message, rev="jzzzzzzzzzzzz"))) is Reason.REV_IN_FUTURE


def test_blocks_that_do_not_hash_to_their_cid() -> None:
    """Checklist 101."""
    scene = Scene()
    message = scene.write()
    blocks = bytearray(message.payload["blocks"])  # type: ignore[arg-type]  # bytes
    blocks[-70] ^= 1
    assert reason(judge(scene, altered(message, blocks=bytes(blocks)))) is Reason.BLOCK_HASH_MISMATCH


def test_blocks_that_are_no_slice() -> None:
    scene = Scene()
    message = scene.write()
    assert reason(judge(scene, altered(message, blocks=b"\x00"))) is Reason.CAR_INVALID
    blocks = message.payload["blocks"]
    assert isinstance(blocks, bytes)
    assert reason(judge(scene, altered(message, blocks=blocks[:-1]))) is Reason.CAR_INVALID


@pytest.mark.parametrize(("size", "passes"), [(1_000_000, True), (1_000_001, False)])
def test_records_are_bounded(size: int, passes: bool) -> None:
    """Checklist 66."""
    scene = Scene()
    shell = len(encode({"x": b"\x00" * 900_000})) - 900_000
    record = encode({"x": b"\x00" * (size - shell)})
    assert len(record) == size
    message = scene.account.repo.commit([Write("com.example.blob/one", record)], scene.account.key, NOW_MS)
    verdict = judge(scene, message)

    assert isinstance(verdict, Accept) if passes else reason(verdict) is Reason.RECORD_TOO_BIG


def test_commit_field_must_be_the_root() -> None:
    """Checklist 127."""
    scene = Scene()
    message = altered(scene.write(), commit=Link(scene.account.repo.tree.cid))
    assert reason(judge(scene, message)) is Reason.COMMIT_CID_MISMATCH


def test_commit_block_must_be_there() -> None:
    """Checklist 96."""
    scene = Scene()
    message = scene.write()
    commit = scene.account.repo.last_commit
    assert commit is not None
    node = (scene.account.repo.tree.cid, scene.account.repo.tree.block)
    assert reason(judge(scene, altered(message, blocks=car_slice(commit.cid, [node])))) is Reason.COMMIT_MISSING


def test_any_order_duplicates_and_strays_are_tolerated() -> None:
    """Checklist 98 to 100."""
    scene = Scene()
    message = scene.write()
    commit = scene.account.repo.last_commit
    assert commit is not None
    stray = encode({"stray": True})
    blocks = [(commit.cid, commit.block), (cid_of(stray), stray), (commit.cid, commit.block)]
    verdict = judge(scene, scene.account.repo.sync())
    assert isinstance(verdict, Accept)
    sync = altered(scene.account.repo.sync(), blocks=car_slice(commit.cid, blocks))
    assert isinstance(judge(scene, sync), Accept)
    assert isinstance(judge(scene, message), Accept)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 2}, Reason.COMMIT_INVALID),
        ({"did": "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}, Reason.COMMIT_DID_MISMATCH),
        ({"rev": "3jzfcijpj2z2a"}, Reason.COMMIT_REV_MISMATCH),
        ({"rev": 7}, Reason.COMMIT_INVALID),
        ({"data": "no link"}, Reason.COMMIT_INVALID),
        ({"sig": b"\x01" * 63}, Reason.SIGNATURE_FORMAT),
        ({"sig": b"\x00" * 64}, Reason.SIGNATURE_FORMAT),
        ({"sig": b"\x00" * 31 + b"\x01" + b"\x7f" + b"\xff" * 31}, Reason.SIGNATURE_FORMAT),
        ({"sig": b"\x01" * 64}, Reason.SIGNATURE_INVALID),
    ],
)
def test_commit_objects_that_do_not_fit(change: Mapping[str, Value], expected: Reason) -> None:
    """Checklist 122, 123, 125, 126, 129 to 132."""
    scene = Scene()
    message = resigned(scene, scene.write(), lambda fields: fields.update(change))
    assert reason(judge(scene, message)) is expected


@pytest.mark.parametrize("key", ["did", "version", "data", "rev", "prev"])
def test_no_key_of_a_commit_object_may_be_missing(key: str) -> None:
    """Checklist 122, 124."""
    scene = Scene()
    message = resigned(scene, scene.write(), lambda fields: fields.pop(key))
    assert reason(judge(scene, message)) is Reason.COMMIT_INVALID


@pytest.mark.parametrize("change", [{"prev": None}, {"note": "kept"}, {"zzzzzzzzz": 1}])
def test_what_a_commit_object_may_hold(change: Mapping[str, Value]) -> None:
    """Checklist 124, 134: a previous commit, and unknown keys inside the signed input."""
    scene = Scene()
    message = resigned(scene, scene.write(), lambda fields: fields.update(change))
    assert isinstance(judge(scene, message), Accept)


def test_a_commit_object_may_name_its_predecessor() -> None:
    """Checklist 124."""
    scene = Scene()
    message = scene.write()
    tree = scene.account.repo.tree.cid
    assert isinstance(judge(scene, resigned(scene, message, lambda fields: fields.update(prev=tree))), Accept)


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_another_key_of_the_curve_asks_for_a_refresh_and_is_then_refused(curve: Curve) -> None:
    """Checklist 136, 137."""
    scene, other = Scene(curve=curve), Scene(seed=2, curve=curve)
    message = scene.write()
    wrong = scene.identity(key=other.identity().key)

    assert judge(scene, message, identity=wrong, refreshed=False) == Refresh(Drop(Reason.SIGNATURE_INVALID))
    assert reason(judge(scene, message, identity=wrong)) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_high_s_is_refused_on_both_curves(curve: Curve) -> None:
    """Checklist 130, 131: libraries accept it, the protocol does not."""
    orders = {
        "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
        "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    }
    scene = Scene(curve=curve)
    message = scene.write()

    def flip(fields: dict[str, Value]) -> None:
        sig = scene.account.key.sign(sha256(encode(fields)).digest())
        high = orders[curve] - int.from_bytes(sig[32:])
        fields["sig"] = sig[:32] + high.to_bytes(32)

    assert reason(judge(scene, resigned(scene, message, flip))) is Reason.SIGNATURE_FORMAT
