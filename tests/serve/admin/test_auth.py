"""Who gets in: passwords, sessions, foreign pages, failures; and that no secret is ever told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from relay.net.exchange import Request
from relay.serve.admin.auth import FAILURES_BURST, Gate
from relay.serve.admin.session import LIFE_SECONDS_MAX, RENEW_SECONDS, SESSION_SECONDS, Sessions, secret_of
from relay.serve.settings import ServeRoleSettings
from relay.serve.xrpc import Refusal
from tests.support.log_writer import HOSTNAME
from tests.support.logged import logged
from tests.support.operating import OTHER_PASSWORD, PASSWORD, SETTINGS, Desk, basic, operating
from tests.support.serving import LOG, Reply, request, serve

PAGE = {"X-Relay-Dash": "1"}


async def test_without_a_password_the_api_is_off_and_says_so(tmp_path: Path) -> None:
    async with operating(tmp_path, ServeRoleSettings(log=LOG)) as desk:
        for headers in ({}, basic(""), basic()):
            reply = await request(desk.serving.port, "GET", "/admin/pds/list", headers=headers)
            assert (reply.status, reply.json["error"]) == (403, "AdminDisabled")
            assert "RELAY_ADMIN_PASSWORD" in reply.json["message"]
        login = await request(desk.serving.port, "POST", "/dash/login", b'{"password": ""}')
        assert login.status == 403


@pytest.mark.parametrize("password", [PASSWORD, OTHER_PASSWORD])
async def test_each_password_opens(password: str, tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        reply = await request(desk.serving.port, "GET", "/admin/subs/getEnabled", headers=basic(password))

    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("wrong"),
        basic(PASSWORD + "x"),
        basic(f"{PASSWORD},{OTHER_PASSWORD}"),
        basic(user="root"),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer " + basic()["Authorization"].split()[1]},
        {"Cookie": "relay_session=1.1.a.b"},
    ],
)
async def test_nothing_else_does(headers: dict[str, str], tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        reply = await request(desk.serving.port, "POST", f"/admin/pds/block?host={HOSTNAME}", headers=headers)

        assert (reply.status, reply.json["error"]) == (401, "AuthRequired")
        assert reply.headers["www-authenticate"].startswith("Basic ")
        assert desk.host().status == "active"
        assert (await desk.get("audit")).json["entries"] == []


def asking(password: str, address: str = "192.0.2.1", method: str = "GET", **headers: str) -> Request:
    return Request(method, "/admin/x", (), {"authorization": basic(password)["Authorization"], **headers}, b"", address)


def sessions(now_s: float = 1e9) -> Sessions:
    return Sessions(b"k", (PASSWORD,), now_ms=lambda: int(now_s * 1_000))


def a_gate(workers: int = 1) -> Gate:
    return Gate((PASSWORD,), sessions(), failure_seconds=1.0, workers=workers)


async def test_a_failure_is_slow_and_many_are_refused_unread(autojump_clock: trio.testing.MockClock) -> None:
    """By address: the operator at another one is not locked out."""
    gate = a_gate()
    began = trio.current_time()
    for _ in range(FAILURES_BURST):
        with pytest.raises(Refusal) as refused:
            await gate.admit(asking("wrong"))
        assert refused.value.status == 401
    assert trio.current_time() - began == pytest.approx(FAILURES_BURST * 1.0)
    assert gate.failed == FAILURES_BURST

    statuses = []
    for _ in range(3):
        with pytest.raises(Refusal) as refused:
            await gate.admit(asking("wrong"))
        statuses.append(refused.value.status)
    assert 429 in statuses
    assert await gate.admit(asking(PASSWORD, "192.0.2.2")) == "basic"
    await trio.sleep(60)
    assert await gate.admit(asking(PASSWORD)) == "basic"


async def test_failures_are_bounded_over_all_workers(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever is dealt out to several by the kernel has no more tries; the time to wait is that of the worker asked."""
    gates = [a_gate(workers=5) for _ in range(5)]
    statuses = []
    async with trio.open_nursery() as nursery:

        async def attempt(gate: Gate) -> None:
            with pytest.raises(Refusal) as refused:
                await gate.admit(asking("wrong"))
            statuses.append((refused.value.status, dict(refused.value.headers).get("Retry-After")))

        for _ in range(3):
            for gate in gates:
                nursery.start_soon(attempt, gate)

    assert sorted(statuses) == [(401, None)] * 10 + [(429, "30")] * 5


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "null", "host": ""},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_page_of_another_site_changes_nothing(headers: dict[str, str]) -> None:
    """A browser that was told the password would send it along."""
    gate = a_gate()

    with pytest.raises(Refusal) as refused:
        await gate.admit(asking(PASSWORD, method="POST", **{"host": "relay.example", **headers}))

    assert refused.value.status == 403


@given(
    st.dictionaries(
        st.sampled_from(["origin", "host", "authorization", "cookie", "sec-fetch-site"]),
        st.text(st.characters(max_codepoint=255))
        | st.sampled_from(["http://[", "//[::1", "Basic 4Q==", "relay_session=1.1.a.b"]),
    )
)
def test_no_header_is_a_fault_of_ours(headers: dict[str, str]) -> None:
    """Whatever a stranger sends is let in or refused."""

    async def ask() -> int:
        try:
            await a_gate().admit(Request("POST", "/admin/x", (), headers, b"", "192.0.2.1"))
        except Refusal as refusal:
            return refusal.status
        return 200

    assert trio.run(ask, clock=trio.testing.MockClock(autojump_threshold=0)) < 500


async def login(desk: Desk, password: str = PASSWORD, **headers: str) -> Reply:
    body = json.dumps({"password": password}).encode()
    return await request(desk.serving.port, "POST", "/dash/login", body, headers)


async def test_a_session_stands_for_the_password(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        cookie = (await login(desk)).headers["set-cookie"]
        for part in ("HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={SESSION_SECONDS}"):
            assert part in cookie
        headers = {"Cookie": cookie.partition(";")[0]}
        port = desk.serving.port
        assert (await request(port, "GET", "/admin/subs/getEnabled", headers=headers)).status == 200

        plain = await request(port, "POST", f"/admin/pds/block?host={HOSTNAME}", headers=headers)
        assert (plain.status, desk.host().status) == (403, "active")
        page = await request(port, "POST", f"/admin/pds/block?host={HOSTNAME}", headers=headers | PAGE)
        assert (page.status, desk.host().status) == (200, "banned")
        entries = (await desk.get("audit")).json["entries"]

    assert [(entry["action"], entry["via"]) for entry in entries] == [
        ("pds/block", "dashboard"),
        ("login", "dashboard"),
    ]


async def test_a_worker_takes_its_share_of_wrong_logins(tmp_path: Path) -> None:
    async with serve(tmp_path, SETTINGS, workers=5) as serving:
        statuses = [(await serving.post("/dash/login", b'{"password": "wrong"}')).status for _ in range(3)]

    assert statuses == [401, 401, 429]


async def test_a_wrong_login_is_refused_without_the_box_of_the_browser(tmp_path: Path) -> None:
    async with operating(tmp_path) as desk:
        reply = await login(desk, "wrong", **PAGE)
        foreign = await login(desk, Origin="https://evil.example")

    assert (reply.status, foreign.status) == (401, 403)
    assert "www-authenticate" not in reply.headers
    assert "set-cookie" not in reply.headers


def test_a_session_ends() -> None:
    token = sessions().issue()

    assert sessions().is_valid(token)
    assert sessions(1e9 + SESSION_SECONDS).is_valid(token)
    assert not sessions(1e9 + SESSION_SECONDS + 1).is_valid(token)


def test_a_session_in_use_is_prolonged_but_not_for_ever() -> None:
    token, now_s = sessions().issue(), 1e9
    assert sessions(now_s + RENEW_SECONDS - 1).renewed(token) is None

    while (following := sessions(now_s := now_s + RENEW_SECONDS).renewed(token)) is not None:
        token = following

    assert now_s - 1e9 == LIFE_SECONDS_MAX + RENEW_SECONDS


@pytest.mark.parametrize("forged", ["", ".", "a.b", "1.1.aa." + "0" * 64, "\x00", "1." * 150, "é.é.é.é"])
def test_a_token_that_is_not_ours_is_none(forged: str) -> None:
    assert not sessions().is_valid(forged)


def test_a_token_altered_or_under_another_password_is_none() -> None:
    token = sessions().issue()

    assert not any(
        sessions().is_valid(token[:at] + ("0" if token[at] != "0" else "1") + token[at + 1 :])
        for at in range(len(token))
    )
    assert not Sessions(b"k", ("other",), now_ms=lambda: 10**12).is_valid(token)
    assert not Sessions(b"l", (PASSWORD,), now_ms=lambda: 10**12).is_valid(token)


def test_the_secret_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "session.key"

    assert secret_of(path) == secret_of(path)
    assert len(path.read_bytes()) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


async def test_no_password_is_told(tmp_path: Path) -> None:
    """Checklist 267: not in logs, answers, the audit log, nor in what the settings look like."""
    with logged() as log:
        async with operating(tmp_path) as desk:
            told = [
                await login(desk),
                await login(desk, PASSWORD + "x"),
                await desk.post("repo/takeDown", {"did": "x"}),
            ]
            told += [await desk.get("audit"), await desk.get("overview")]
            stored = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    text = log.getvalue() + repr(SETTINGS) + "".join(repr(reply) for reply in told)

    assert "admin_login_failed" in log.getvalue()
    assert PASSWORD not in text
    assert PASSWORD.encode() not in stored


async def test_on_a_listener_of_its_own_it_is_nowhere_else(tmp_path: Path) -> None:
    """`listen.admin`: the last listener serves /admin and /dash, and nothing but them."""
    async with operating(tmp_path, replace(SETTINGS, separate_admin=True)) as desk:
        public = [await desk.get("subs/getEnabled"), await desk.serving.get("/dash")]
        assert [reply.status for reply in public] == [404, 404]
        assert (await desk.serving.get("/_health")).status == 200
        own = {path: await raw_status(desk, path) for path in ("/admin/subs/getEnabled", "/dash", "/", "/_health")}

    assert own == {"/admin/subs/getEnabled": 200, "/dash": 200, "/": 404, "/_health": 404}


async def raw_status(desk: Desk, path: str) -> int:
    """The status of a GET on the last listener."""
    stream = desk.serving.memory.connect()
    lines = [f"GET {path} HTTP/1.1", "Host: x", f"Authorization: {basic()['Authorization']}", "Connection: close"]
    await stream.send_all("\r\n".join([*lines, "", ""]).encode())
    received = b""
    while data := await stream.receive_some(65_536):
        received += data
    return int(received.split()[1])
