"""What an operator can choose about upstream hosts: the keys `hosts.*` of the configuration.

Owns names, units and defaults. Ranges, texts and parsing are in `relay.app.keys`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSettings:
    """Bounds for the hosts of one tier. `hosts` are globs that assign hosts to it; rates count events of one host.

    The defaults are those of the reference relay for a host it does not trust (reference table 4.3). As there, what a
    host may send grows with its account limit (`relay.crawl.limits`): to 2,600 an hour and 21,000 a day with 100.
    """

    hosts: tuple[str, ...] = ()
    per_second: int = 50
    per_hour: int = 2_500
    per_day: int = 20_000
    account_limit: int = 100


TRUSTED_DEFAULTS = TierSettings(per_second=5_000, per_hour=50_000_000, per_day=500_000_000, account_limit=10_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """Which hosts are read, from where, and how much of them.

    `discover_from` are relays whose listHosts is read every `discover_minutes`. `start` is where a host never seen
    before is read from: "window" or "live"; `discover_start` the same for discovered ones, "auto" being live for hosts
    that the source calls active with a seq. `request_crawl`, `new_per_day` and `new_accounts_per_second` concern the
    public requestCrawl only. `tiers` always holds "default" and "trusted"; `trusted` and `account_limit` are already
    worked into those two when the settings come from the configuration.
    """

    seeds: tuple[str, ...] = ()
    discover_from: tuple[str, ...] = ("https://bsky.network",)
    discover_minutes: float = 60.0
    discover_start: str = "auto"
    allow_insecure: bool = False
    allow_private: bool = False
    start: str = "window"
    request_crawl: bool = True
    new_per_day: int = 50
    new_accounts_per_second: float = 5.0
    trusted: tuple[str, ...] = ("*.host.bsky.network",)
    account_limit: int = 100
    tiers: Mapping[str, TierSettings] = field(
        default_factory=lambda: {"default": TierSettings(), "trusted": TRUSTED_DEFAULTS},
    )
