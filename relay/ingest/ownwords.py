"""What the relay says of accounts by itself: an `#account` that no host sent, appended in its place among their events.

Two occasions: a DID that is found gone is deleted (checklist 145), and a flag that turned out to be stale is lifted
(checklist 171). What the row becomes is decided by `relay.verify.account`; here is only the way into the log. A word is
an item like any event's, but no host's place depends on it, so it can be said again whenever its row moved on.
"""

from collections.abc import Callable

from relay.ingest.batcher import Batcher
from relay.observe.metrics import Metrics
from relay.store.batch import Item
from relay.store.localstatus import status_item
from relay.store.store import Store
from relay.verify.facts import AccountState

Change = Callable[[AccountState], AccountState | None]
"""The row that a word leaves behind; None when there is nothing to say any more."""


class OwnWords:
    """Says what has to be said, through the batcher of this worker."""

    def __init__(self, store: Store, batcher: Batcher, metrics: Metrics, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._batcher = batcher
        self._metrics = metrics
        self._now_ms = now_ms

    def say(self, did: str, change: Change) -> None:
        """Queue the `#account` that `change` asks for of the row as the next event of the DID will find it, if any.

        Nothing is said of a DID without a row. Consumers hear nothing when the effective status stays as it was: a
        local status hides what the host says.
        """
        with self._store.view() as view:
            account = self._batcher.overlaid(did) or view.account(did)
        changed = change(account) if account is not None else None
        if account is not None and changed is not None:
            self._batcher.put(_Word(self, status_item(did, account, changed, self._now_ms()), change))

    def said(self, item: Item) -> None:
        """It is in the log."""
        if item.template is not None:
            self._metrics.append.events_appended.labels("#account", "relay").inc()


class _Word:
    """One word on its way (`relay.ingest.entries.OwnWord`)."""

    def __init__(self, words: OwnWords, item: Item, change: Change) -> None:
        self.item = item
        self._words = words
        self._change = change

    def refused(self) -> None:
        self._words.say(self.item.did, self._change)

    def appended(self) -> None:
        self._words.said(self.item)
