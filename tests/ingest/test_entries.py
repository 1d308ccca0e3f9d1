"""Items on their way, beside lists: the queue that is cut into batches, and the rows that the items leave behind."""

from collections import defaultdict
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from relay.ingest.entries import Entry, EntryQueue, Origin, Overlay, OwnWord
from relay.ingest.lanes import Pending
from relay.protocol.events import AccountEvent
from relay.protocol.frame import MessageFrame, account_frame
from relay.store.batch import Item
from relay.verify.facts import AccountState

NOW_MS = 1_700_000_000_000
DIDS = [f"did:plc:{letter * 24}" for letter in "abc"]
WORD_BYTES = account_frame(DIDS[0], NOW_MS, True, None).frame_bytes_max


class Word:
    """A word of our own, with or without a frame; nobody tells it how it ended."""

    def __init__(self, item: Item) -> None:
        self.item = item

    def refused(self) -> None:
        raise AssertionError

    def appended(self) -> None:
        raise AssertionError


def item(did: str, number: int, *, emits: bool = True) -> Item:
    """An item told apart by its number."""
    template = account_frame(did, NOW_MS, True, None) if emits else None
    return Item(did, number, AccountState(version=number, upstream_seq=number), template, 1, number)


def entry(did: str, number: int, frame_bytes: int) -> Entry:
    pending = Pending(AccountEvent(number, did, True, None), MessageFrame("#account", {}), frame_bytes, 0)
    return Entry(item(did, number), pending, cast("Origin", None))  # a queue tells nobody


def weight(queued: Entry | OwnWord) -> int:
    if isinstance(queued, Entry):
        return queued.pending.frame_bytes
    return WORD_BYTES if queued.item.template is not None else 0


@given(st.data())
def test_the_queue_loses_nothing_keeps_the_order_and_cuts_at_its_bounds(data: st.DataObject) -> None:
    """Invariant 4, with entries of our own among those of hosts, and some of them taken back."""
    items_max, bytes_max = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 500))
    queue, naive = EntryQueue(items_max, bytes_max), list[Entry | OwnWord]()
    for number in range(data.draw(st.integers(0, 40))):
        did = data.draw(st.sampled_from(DIDS))
        match data.draw(st.sampled_from(["event", "event", "word", "silent word", "take", "withdraw"])):
            case "event":
                naive.append(entry(did, number, data.draw(st.integers(1, 300))))
                queue.push(naive[-1])
            case "word" | "silent word" as kind:
                naive.append(Word(item(did, number, emits=kind == "word")))
                queue.push(naive[-1])
            case "take":
                batch = queue.take()
                assert batch == naive[: len(batch)]
                assert len(batch) == most(naive, items_max, bytes_max)
                del naive[: len(batch)]
            case "withdraw":
                dids = {did, DIDS[0]}
                assert queue.withdraw(dids) == [each for each in naive if each.item.did in dids]
                naive = [each for each in naive if each.item.did not in dids]
        assert len(queue) == len(naive)
        assert queue.is_full == (len(naive) >= items_max or sum(map(weight, naive)) >= bytes_max)


def most(naive: list[Entry | OwnWord], items_max: int, bytes_max: int) -> int:
    """How many of these fit into a batch; the first one always does."""
    fitting = [count for count in range(1, items_max + 1) if sum(map(weight, naive[:count])) <= bytes_max]
    return min(len(naive), max([1, *fitting]))


@given(st.data())
def test_the_overlay_is_what_the_newest_item_on_its_way_leaves_behind(data: st.DataObject) -> None:
    """Design section 3: the row one version further; dropped when the last item of the DID has ended."""
    overlay = Overlay()
    naive: dict[str, list[Item]] = defaultdict(list)
    for number in range(data.draw(st.integers(0, 40))):
        did = data.draw(st.sampled_from(DIDS))
        ends = data.draw(st.booleans())
        if ends and naive[did]:
            overlay.leave(did)
            naive[did].pop(0)
        else:
            naive[did].append(item(did, number))
            overlay.enter(naive[did][-1])
        for each, items in naive.items():
            expected = items[-1].state._replace(version=items[-1].version + 1) if items else None
            assert overlay.state(each) == expected
