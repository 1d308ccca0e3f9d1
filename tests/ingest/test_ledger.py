"""What waits for the next write about a host: the newest word, and since when it holds."""

from typing import Any

from relay.crawl.host import GAP_RESTART, HostNews
from relay.crawl.hoststate import Ending
from relay.ingest.ledger import Ledger


class Written:
    """The row of host 1 as the ledger has told it, on a clock to turn by hand."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.row: dict[str, Any] = {}
        self.ledger = Ledger(self._write, lambda: self.now_ms)
        self.ledger.begin(1, "idle")

    async def _write(self, changes: dict[int, dict[str, Any]]) -> None:
        self.row |= changes[1]

    async def hear(self, news: HostNews) -> dict[str, Any]:
        self.now_ms += 1_000
        self.ledger.report(1, news)
        await self.ledger.flush()
        return self.row


async def test_how_the_last_connection_ended_is_kept_until_one_comes_about() -> None:
    """With its error; both are gone once the host is well."""
    written = Written()
    row = await written.hear(HostNews("idle", "in our future", Ending.FUTURE_CURSOR))
    assert (row["last_ending"], row["last_error"], row["connected_ms"]) == ("future_cursor", "in our future", 0)
    row = await written.hear(HostNews("idle", "its window goes further", None, probed=True))
    assert (row["last_ending"], row["last_error"]) == ("future_cursor", "its window goes further")
    row = await written.hear(HostNews("active", "", None))
    assert (row["status"], row["since_ms"], row["connected_ms"]) == ("active", 4_000, 4_000)
    assert (row["last_ending"], row["last_error"]) == ("", "")


async def test_a_host_whose_seqs_began_anew_is_no_longer_ahead_of_us() -> None:
    written = Written()
    await written.hear(HostNews("idle", "in our future", Ending.FUTURE_CURSOR))
    row = await written.hear(HostNews("idle", "began anew", None, GAP_RESTART, probed=True, cursor_before=20))
    assert (row["last_ending"], row["cursor_before"], row["possible_gap"]) == ("", 20, GAP_RESTART)
