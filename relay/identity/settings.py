"""Settings of DID resolution; names and defaults as in the configuration (`config/README.md`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """`[identity]`. Ages and holds are for one DID; `refresh_per_minute` bounds the refreshes that one host forces."""

    plc_url: str = "https://plc.directory"
    cache_hours: float = 24.0
    negative_seconds: float = 120.0
    hold_seconds: float = 60.0
    refresh_per_minute: int = 60
    lookups_at_once: int = 32
    lookup_seconds: float = 5.0
    cache_entries: int = 50_000
