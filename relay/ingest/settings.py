"""What an ingest worker is told: the keys `ingest.*` and `validation.*`, and the settings of the floors below it.

Owns names, units and defaults. Ranges, texts and parsing are in `relay.app.keys`.
"""

from dataclasses import dataclass, field

from relay.crawl.settings import HostSettings
from relay.identity.settings import IdentitySettings
from relay.store.settings import LogSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """Bounds of waiting work: `lane_items`, `lane_bytes` per DID, `in_flight` events per host; full means not reading.

    `mode` is how strictly a chain is judged on hosts without an override: "ratchet", "strict" or "lenient".
    """

    lane_items: int = 256
    lane_bytes: int = 16 << 20
    in_flight: int = 512
    mode: str = "ratchet"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRoleSettings:
    """All that an ingest worker needs to know. `user_agent` is `atproto-relay/<version>` with the contact, if any."""

    user_agent: str = "atproto-relay"
    log: LogSettings = field(default_factory=LogSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    hosts: HostSettings = field(default_factory=HostSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
