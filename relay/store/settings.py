"""What an operator can choose about the log and the state env: the keys `log.*` of the configuration.

Owns names, units and defaults. Ranges, texts and parsing are in `relay.app.keys`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Bounds of the backfill window, of a segment and of one append.

    `window_bytes` 0 means no bound by size. `initial_seq` None is `auto`: ten times unix milliseconds when the log is
    created; a number is a floor at every start. `state_map_bytes` is the address space reserved for the state env.
    """

    window_hours: float = 72.0
    window_bytes: int = 0
    segment_bytes: int = 1 << 30
    batch_ms: int = 10
    batch_items: int = 512
    batch_bytes: int = 1 << 20
    sync: bool = True
    initial_seq: int | None = None
    state_map_bytes: int = 64 << 30
