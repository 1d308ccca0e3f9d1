"""How the PLC directory does: whether it is down, and whether it keeps failing for one DID while others resolve.

Fed with every lookup at the directory. What did:web hosts answer says nothing about it and is not counted: strangers
could make it look up, or down, by naming some. Decides nothing; what follows is `relay.ingest.waiting`.
"""

from collections import OrderedDict, deque
from math import inf

OUTCOMES_KEPT = 20
OUTCOMES_TELLING = 4
REFUSED_SECONDS_MAX = 900.0
REFUSED_STEP_SECONDS_MAX = 60.0  # how much one more fault can add: nothing is known of the time between two lookups
REFUSED_DIDS_MAX = 10_000


class DirectoryHealth:
    """`now` is any clock in seconds, passed to every call."""

    def __init__(self) -> None:
        self._failed: deque[bool] = deque(maxlen=OUTCOMES_KEPT)
        self._found_at = -inf
        self._refused: OrderedDict[str, tuple[float, float]] = OrderedDict()  # seconds so far, and the last fault

    @property
    def down(self) -> bool:
        """Half or more of the last lookups failed, once there were a few."""
        return len(self._failed) >= OUTCOMES_TELLING and sum(self._failed) * 2 >= len(self._failed)

    def found(self, did: str, now: float) -> None:
        """The directory gave a document."""
        self._found_at = now
        self.answered(did)

    def answered(self, did: str) -> None:
        """The directory answered for this DID, whatever it said."""
        self._failed.append(False)
        self._refused.pop(did, None)

    def failed(self, did: str, now: float) -> None:
        """The directory did not do its work for this DID."""
        self._failed.append(True)
        seconds, last = self._refused.pop(did, (0.0, now))
        if self._found_at > last:
            seconds += min(now - last, REFUSED_STEP_SECONDS_MAX)
        self._refused[did] = (seconds, now)
        if len(self._refused) > REFUSED_DIDS_MAX:
            self._refused.popitem(last=False)

    def refuses(self, did: str) -> bool:
        """Whether it failed for this DID for `REFUSED_SECONDS_MAX`, of the time in which it gave documents of others.

        A document that the directory cannot put together would otherwise hold up the whole host for ever; an outage
        never comes to that, however long, because nothing is found in it.
        """
        return self._refused.get(did, (0.0, 0.0))[0] >= REFUSED_SECONDS_MAX
