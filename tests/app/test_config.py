"""From file and environment to settings: precedence, complete problems, nothing guessed."""

import ipaddress
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.app.config import ConfigError, effective, load
from relay.app.keys import INITIAL_SEQ_MAX, KEYS
from relay.app.kinds import Address, Listen, Size
from relay.app.settings import RelaySettings, housekeeping_role, ingest_role, serve_role
from relay.crawl.settings import TierSettings
from relay.ingest.settings import IngestRoleSettings
from relay.protocol.limits import SEQ_MAX
from relay.serve.settings import ServeRoleSettings
from relay.store.store import Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "relay.toml"
    path.write_text("")
    return path


def problems(file: Path | None, environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, environ, cores=2)
    return list(caught.value.problems)


def test_nothing_given_is_the_defaults_with_workers_by_cores(file: Path) -> None:
    settings = load(file, {}, cores=6)

    assert (settings.workers.ingest, settings.workers.serve) == (3, 3)
    assert settings.listen.api == Address("::", 2470)
    assert settings.log == RelaySettings().log
    assert settings.hosts.discover_from == ("https://bsky.network",)


def test_the_environment_wins_over_the_file(file: Path) -> None:
    file.write_text('[log]\nwindow_hours = 5\nbatch_ms = 7\n[listen]\napi = "127.0.0.1:1"\n')

    settings = load(file, {"RELAY_LOG_WINDOW_HOURS": "6.5", "RELAY_LISTEN_API": "[::1]:2"}, cores=2)

    assert settings.log.window_hours == 6.5
    assert settings.log.batch_ms == 7
    assert settings.listen.api == Address("::1", 2)


def test_every_problem_is_named_with_its_key_and_what_is_allowed(file: Path) -> None:
    file.write_text(
        'datadir = "x"\n[log]\nwindow_hours = "72"\nsync = 1\nsegment_bytes = "1GB"\n[validation]\nmode = "lax"\n'
    )

    found = problems(file, {"RELAY_CONSUMERS_MAX": "0", "RELAY_HOSTS_SEED": "a.example", "RELAY_LISTEN_API": "2470"})

    assert found == [
        "RELAY_HOSTS_SEED: there is no such key (from the environment)",
        "consumers.max: takes a whole number from 1 to 1000000, not '0' (from RELAY_CONSUMERS_MAX)",
        f"datadir: there is no such key (from {file})",
        f"listen.api: takes {Listen().allowed}, not '2470' (from RELAY_LISTEN_API)",
        f"log.segment_bytes: takes a size from 16MiB to 64GiB, such as 1048576 or \"1MiB\", not '1GB' (from {file})",
        f"log.sync: takes true or false, not 1 (from {file})",
        f"log.window_hours: takes a number from 0.01 to 87600, not '72' (from {file})",
        f'validation.mode: takes one of "ratchet", "strict", "lenient", not \'lax\' (from {file})',
    ]


def test_toml_that_does_not_parse_is_a_problem_with_its_place(file: Path) -> None:
    file.write_text("[log\n")

    (problem,) = problems(file, {})

    assert str(file) in problem
    assert "line" in problem


def test_a_value_in_the_place_of_a_table_is_told_so(file: Path) -> None:
    file.write_text('listen = 5\nmore = 1\n[hosts]\ntiers = "gold"\n')
    assert problems(file, {}) == [
        f"hosts.tiers: takes a table, [hosts.tiers], not 'gold' (from {file})",
        f"listen: takes a table, [listen], not 5 (from {file})",
        f"more: there is no such key (from {file})",
    ]

    file.write_text("[hosts.tiers]\nper_day = 5\n[listen.api]\nport = 1\n")
    assert problems(file, {}) == [
        f"hosts.tiers.per_day: takes a table, [hosts.tiers.per_day], not 5 (from {file})",
        f"listen.api.port: there is no such key (from {file})",
    ]


def test_a_tier_that_cannot_be_called_so_is_one_problem_that_says_which_names_are_allowed(file: Path) -> None:
    file.write_text("[hosts.tiers.BAD]\nper_second = 1\nper_day = 2\n[hosts.tiers.good]\nper_week = 3\n")

    allowed = "a lower-case letter, then at most 31 lower-case letters, digits and underscores"
    assert problems(file, {"RELAY_HOSTS_TIERS_9_PER_DAY": "1"}) == [
        f"hosts.tiers.9: the name of a tier takes {allowed} (from RELAY_HOSTS_TIERS_9_PER_DAY)",
        f"hosts.tiers.BAD: the name of a tier takes {allowed} (from {file})",
        f"hosts.tiers.good.per_week: there is no such key (from {file})",
    ]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert problems(tmp_path, {}) == [f"{tmp_path}: cannot be read: Is a directory"]


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml", {}) == [f"{tmp_path / 'none.toml'}: there is no such file"]


def test_the_default_file_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert load(None, {}, cores=2).data_dir == Path("data")


@pytest.mark.parametrize(
    ("text", "size"), [("1GiB", 1 << 30), ("1.5GiB", 3 << 29), ("20 MiB", 20 << 20), ("33554432", 32 << 20)]
)
def test_sizes_have_units(file: Path, text: str, size: int) -> None:
    assert load(file, {"RELAY_LOG_SEGMENT_BYTES": text}, cores=2).log.segment_bytes == size


def test_lists_are_separated_by_commas_in_the_environment(file: Path) -> None:
    environ = {"RELAY_HOSTS_SEEDS": "a.example, https://b.example:8443,a.example", "RELAY_HOSTS_TRUSTED": ""}

    hosts = load(file, environ, cores=2).hosts

    assert hosts.seeds == ("a.example", "https://b.example:8443")
    assert hosts.trusted == ()


def test_auto_is_said_by_a_word(file: Path) -> None:
    assert load(file, {"RELAY_LOG_INITIAL_SEQ": "auto"}, cores=2).log.initial_seq is None
    assert load(file, {"RELAY_LOG_INITIAL_SEQ": "77"}, cores=2).log.initial_seq == 77


@pytest.mark.parametrize("seq", [INITIAL_SEQ_MAX + 1, SEQ_MAX])
def test_a_first_seq_without_room_for_those_after_it_is_a_problem(file: Path, seq: int) -> None:
    (problem,) = problems(file, {"RELAY_LOG_INITIAL_SEQ": str(seq)})

    assert problem.startswith(f"log.initial_seq: takes a whole number from 1 to {INITIAL_SEQ_MAX} or ")


def test_a_log_can_begin_with_the_highest_first_seq(file: Path, tmp_path: Path) -> None:
    settings = load(file, {"RELAY_LOG_INITIAL_SEQ": str(INITIAL_SEQ_MAX)}, cores=2)

    store = Store.open(tmp_path / "data", settings.log, create=True, now_ms=1)

    assert store.tip().seq + 1 == INITIAL_SEQ_MAX
    store.close()


def test_a_private_network_discovers_nothing_unless_told(file: Path) -> None:
    private = {"RELAY_HOSTS_ALLOW_PRIVATE": "true"}

    assert load(file, private, cores=2).hosts.discover_from == ()
    told = load(file, {**private, "RELAY_HOSTS_DISCOVER_FROM": "http://other.example"}, cores=2)
    assert told.hosts.discover_from == ("http://other.example",)


def test_tiers_come_from_their_own_keys_and_from_the_two_short_ones(file: Path) -> None:
    file.write_text('[hosts]\naccount_limit = 5\ntrusted = ["*.a.example"]\n[hosts.tiers.gold]\nper_second = 9\n')

    tiers = load(
        file, {"RELAY_HOSTS_TIERS_GOLD_PER_DAY": "8", "RELAY_HOSTS_TIERS_DEFAULT_PER_HOUR": "3"}, cores=2
    ).hosts.tiers

    assert tiers["default"] == TierSettings(account_limit=5, per_hour=3)
    assert tiers["gold"] == TierSettings(per_second=9, per_day=8)
    assert tiers["trusted"].hosts == ("*.a.example",)


def test_names_that_kubernetes_puts_into_a_pod_are_not_ours(file: Path) -> None:
    """A service called `relay` must not keep the relay from starting."""
    load(file, {"RELAY_SERVICE_HOST": "10.0.0.1", "RELAY_PORT": "x", "RELAY_PORT_2470_TCP_ADDR": "y"}, cores=2)


def test_a_secret_comes_from_the_environment_or_a_file_and_never_from_toml(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")

    assert load(file, {"RELAY_ADMIN_PASSWORD": "hunter1"}, cores=2).admin_password == "hunter1"
    assert load(file, {"RELAY_ADMIN_PASSWORD_FILE": str(secret)}, cores=2).admin_password == "hunter2"
    assert problems(file, {"RELAY_ADMIN_PASSWORD": "hunter1", "RELAY_ADMIN_PASSWORD_FILE": str(secret)}) == [
        "RELAY_ADMIN_PASSWORD: give it or RELAY_ADMIN_PASSWORD_FILE, not both"
    ]
    file.write_text('admin_password = "hunter1"\n')
    assert problems(file, {}) == [f"admin_password: there is no such key (from {file})"]


def test_a_secret_is_never_printed(file: Path) -> None:
    settings = load(file, {"RELAY_ADMIN_PASSWORD": "hunter1"}, cores=2)

    printed = "\n".join(effective(settings)) + repr(settings)

    assert "hunter1" not in printed
    assert "# admin_password = ********" in printed


def test_what_is_printed_reads_back_as_the_same_settings(file: Path) -> None:
    environ = {
        "RELAY_HOSTS_ALLOW_PRIVATE": "1",
        "RELAY_HOSTS_TIERS_GOLD_HOSTS": "*.gold.example",
        "RELAY_LISTEN_ADMIN": "[::1]:9",
        "RELAY_CONTACT": 'a "b" \\ c',
        "RELAY_LOG_WINDOW_HOURS": "0.25",
    }
    settings = load(file, environ, cores=2)

    file.write_text("\n".join(effective(settings)))

    assert load(file, {}, cores=7) == settings


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12))
def test_no_text_in_the_environment_is_worse_than_a_problem(text: str) -> None:
    """For every key, any text is either taken or refused as a value; nothing else is ever raised."""
    for key in KEYS:
        with suppress(ValueError):
            key.kind.read_text(text)


@pytest.mark.parametrize("value", [None, 1, 1.5, float("nan"), True, "x", [], ["x", 1], [""], {}, -1, 10**30])
def test_no_value_in_a_file_is_worse_than_a_problem(value: object) -> None:
    for key in KEYS:
        with suppress(ValueError):
            key.kind.read(value)


@given(st.integers(min_value=1, max_value=1 << 50))
def test_a_size_is_shown_as_it_reads(size: int) -> None:
    kind = Size(1, 1 << 60)

    assert kind.read(msgspec.toml.decode(f"x = {kind.show(size)}")["x"]) == size


def test_role_settings_survive_the_way_to_a_worker(file: Path) -> None:
    environ = {
        "RELAY_HOSTS_SEEDS": "a.example",
        "RELAY_CONTACT": "ops@a.example",
        "RELAY_HTTP_REQUESTS_PER_ADDRESS": "7",
    }
    settings = load(file, environ, cores=2)

    for role, kind in ((ingest_role(settings), IngestRoleSettings), (serve_role(settings), ServeRoleSettings)):
        assert msgspec.json.decode(msgspec.json.encode(role), type=kind) == role
    assert housekeeping_role(settings).log == settings.log
    assert ingest_role(settings).user_agent.endswith(" (+ops@a.example)")
    assert serve_role(settings).http.requests_per_address == 7


def test_default_proxies_are_loopback() -> None:
    networks = [ipaddress.ip_network(text) for text in RelaySettings().listen.trusted_proxies]

    assert all(network.is_loopback for network in networks)
