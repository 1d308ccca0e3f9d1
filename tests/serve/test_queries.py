"""The XRPC queries over HTTP, against accounts and hosts in a real store."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import multiformats
import pytest

from relay.store.batch import Batch
from relay.verify.facts import AccountState, Identity
from tests.support.log_writer import HOSTNAME, START_MS, did_of
from tests.support.serving import Reply, Serving, request, serve
from tests.support.shared import shared_dir

REV = "3kxyz2abcde2a"
HEAD = sha256(b"commit").digest()


def account(serving: Serving, number: int, **changes: Any) -> str:
    """Store an account; its DID."""
    fields: dict[str, Any] = {"host_id": serving.log.host.host_id, "rev": REV, "data": HEAD, "commit": HEAD}
    serving.log.put_account(did_of(number), AccountState(**fields | changes))
    return did_of(number)


async def query(serving: Serving, name: str, **parameters: object) -> Reply:
    fields = "&".join(f"{key}={value}" for key, value in parameters.items())
    return await serving.get(f"/xrpc/com.atproto.sync.{name}?{fields}")


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        ({}, {"active": True, "rev": REV}),
        ({"rev": "", "data": b"", "commit": b""}, {"active": True}),
        ({"upstream_active": False, "upstream_status": "deactivated"}, {"active": False, "status": "deactivated"}),
        ({"upstream_active": False}, {"active": False}),
        ({"local_status": "takendown"}, {"active": False, "status": "takendown"}),
        ({"upstream_status": "desynchronized"}, {"active": True, "status": "desynchronized", "rev": REV}),
    ],
)
async def test_repo_status_of_any_account_we_know(
    tmp_path: Path, state: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Checklist 223: 200 for inactive accounts as well, with the effective status."""
    async with serve(tmp_path) as serving:
        did = account(serving, 1, **state)
        reply = await query(serving, "getRepoStatus", did=did)
        assert (reply.status, reply.json) == (200, {"did": did} | answer)
        assert reply.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("name", ["getRepoStatus", "getLatestCommit", "getRepo"])
async def test_an_account_nobody_knows_is_not_found(tmp_path: Path, name: str) -> None:
    """Checklist 224, 227."""
    async with serve(tmp_path) as serving:
        reply = await query(serving, name, did=did_of(404))
        assert (reply.status, reply.json["error"]) == (400, "RepoNotFound")


@pytest.mark.parametrize("name", ["getRepoStatus", "getLatestCommit", "getRepo"])
async def test_a_did_that_is_none_is_a_400(tmp_path: Path, name: str) -> None:
    """Checklist 225, 251."""
    async with serve(tmp_path) as serving:
        for did in ("", "did:plc", "DID:plc:abc", "did:plc:a%20b", "%00", "x" * 3000):
            reply = await query(serving, name, did=did)
            assert (reply.status, reply.json["error"]) == (400, "InvalidRequest"), did


async def test_every_invalid_did_of_the_public_vectors_is_refused(tmp_path: Path) -> None:
    text = (shared_dir() / "vectors/atproto/syntax/did_syntax_invalid.txt").read_text()
    from urllib.parse import quote

    async with serve(tmp_path) as serving:
        for line in text.splitlines():
            if line and not line.startswith("#"):
                reply = await query(serving, "getRepoStatus", did=quote(line))
                assert (reply.status, reply.json["error"]) == (400, "InvalidRequest"), line


async def test_latest_commit_is_the_head_as_text(tmp_path: Path) -> None:
    """Checklist 226."""
    async with serve(tmp_path) as serving:
        reply = await query(serving, "getLatestCommit", did=account(serving, 1))
        assert reply.status == 200
        assert reply.json["rev"] == REV
        assert bytes(multiformats.CID.decode(reply.json["cid"]))[4:] == HEAD


@pytest.mark.parametrize("name", ["getLatestCommit", "getRepo"])
@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"local_status": "takendown"}, "RepoTakendown"),
        ({"upstream_active": False, "upstream_status": "takendown"}, "RepoTakendown"),
        ({"local_status": "suspended"}, "RepoSuspended"),
        ({"upstream_active": False, "upstream_status": "deactivated"}, "RepoDeactivated"),
        ({"upstream_active": False, "upstream_status": "deleted"}, "RepoNotFound"),
        ({"upstream_active": False}, "RepoDeactivated"),
        ({"local_status": "throttled"}, "RepoDeactivated"),
        ({"upstream_active": False, "upstream_status": "of another time"}, "RepoDeactivated"),
    ],
)
async def test_an_inactive_account_has_its_declared_error(
    tmp_path: Path, name: str, state: dict[str, Any], error: str
) -> None:
    """Checklist 227, 242; protocol.md section 24, #21."""
    async with serve(tmp_path) as serving:
        reply = await query(serving, name, did=account(serving, 1, **state))
        assert (reply.status, reply.json["error"]) == (400, error)
        assert reply.json["message"]


async def test_an_account_without_a_commit_has_no_latest_one(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        reply = await query(serving, "getLatestCommit", did=account(serving, 1, rev="", data=b"", commit=b""))
        assert (reply.status, reply.json["error"]) == (400, "RepoNotFound")


async def test_get_repo_redirects_to_the_stored_host_and_nowhere_else(tmp_path: Path) -> None:
    """Checklist 242, 243: nothing of the request but two validated parameters reaches the Location."""
    async with serve(tmp_path) as serving:
        did, insecure, unknown = (account(serving, number) for number in (1, 2, 3))
        serving.store.add_host("localhost:2583", insecure=True, now_ms=START_MS)
        identities = (
            Identity(did, None, HOSTNAME, START_MS),
            Identity(insecure, None, "localhost:2583", START_MS),
            Identity(unknown, None, None, START_MS),
        )
        serving.store.append(Batch(START_MS, identities=identities))
        target = f"/xrpc/com.atproto.sync.getRepo?did={did}&since={REV}&host=evil.example&did2=x"
        reply = await serving.get(target, Host="evil.example", **{"X-Forwarded-Host": "evil.example"})
        assert reply.status == 302
        assert reply.headers["location"] == f"https://{HOSTNAME}/xrpc/com.atproto.sync.getRepo?did={did}&since={REV}"
        reply = await query(serving, "getRepo", did=insecure)
        assert reply.headers["location"].startswith("http://localhost:2583/xrpc/")
        reply = await query(serving, "getRepo", did=unknown)
        assert (reply.status, reply.json["error"]) == (400, "RepoNotFound")
        assert (await query(serving, "getRepo", did=did, since="yesterday")).status == 400


async def test_repos_are_paged_without_skip_or_repeat_under_inserts(tmp_path: Path) -> None:
    """Checklist 228 to 230: pages of any size, rows between them, and no cursor on the last."""
    async with serve(tmp_path) as serving:
        dids = [account(serving, number) for number in range(2, 602, 2)]
        account(serving, 301, rev="", data=b"", commit=b"")  # never committed: cannot be listed
        gone = account(serving, 801, upstream_active=False, upstream_status="deactivated")
        seen: list[dict[str, Any]] = []
        cursor = ""
        for limit in (1, 2, 130, 100):
            page = (await query(serving, "listRepos", limit=limit, **({"cursor": cursor} if cursor else {}))).json
            assert len(page["repos"]) == limit
            seen += page["repos"]
            cursor = page["cursor"]
            account(serving, 1)  # behind us
        account(serving, 601)  # before us
        last = (await query(serving, "listRepos", cursor=cursor)).json
        assert "cursor" not in last
        seen += last["repos"]
        assert [repo["did"] for repo in seen] == [*dids, did_of(601), gone]
        assert seen[0].keys() == {"did", "head", "rev", "active"}
        assert (seen[-1]["active"], seen[-1]["status"]) == (False, "deactivated")


async def test_a_page_that_ends_with_the_last_repo_has_no_cursor(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        assert (await query(serving, "listRepos")).json == {"repos": []}
        for number in range(1, 4):
            account(serving, number)
        assert "cursor" in (await query(serving, "listRepos", limit=2)).json
        assert "cursor" not in (await query(serving, "listRepos", limit=3)).json


async def test_hosts_are_listed_first_seen_first(tmp_path: Path) -> None:
    """Checklist 231, 232: pages in order of arrival; no seq for a host that was never read."""
    async with serve(tmp_path) as serving:
        names = [HOSTNAME, *(f"pds{number}.example.net" for number in (3, 1, 2))]
        rows = [serving.store.add_host(name, insecure=False, now_ms=START_MS) for name in names]
        serving.store.update_host(rows[1].host_id, status="offline", cursor=77)
        account(serving, 1)
        first = (await query(serving, "listHosts", limit=3)).json
        rest = (await query(serving, "listHosts", cursor=first["cursor"])).json
        assert "cursor" not in rest
        hosts = first["hosts"] + rest["hosts"]
        assert [host["hostname"] for host in hosts] == names
        assert hosts[0] == {"hostname": HOSTNAME, "accountCount": 1, "status": "active"}
        assert hosts[1] == {"hostname": names[1], "seq": 77, "accountCount": 0, "status": "offline"}
        assert "cursor" not in (await query(serving, "listHosts", limit=4)).json


async def test_one_host_by_name_and_one_nobody_knows(tmp_path: Path) -> None:
    """Checklist 233; names are compared without case, as DNS does."""
    async with serve(tmp_path) as serving:
        reply = await query(serving, "getHostStatus", hostname=HOSTNAME.upper())
        assert reply.json == {"hostname": HOSTNAME, "accountCount": 0, "status": "active"}
        reply = await query(serving, "getHostStatus", hostname="nobody.example.com")
        assert (reply.status, reply.json["error"]) == (400, "HostNotFound")
        for hostname in ("", "x" * 3000, "%00", "%C3%A9"):
            assert (await query(serving, "getHostStatus", hostname=hostname)).status == 400


@pytest.mark.parametrize("name", ["listRepos", "listHosts"])
@pytest.mark.parametrize("parameters", [{"limit": 0}, {"limit": 1001}, {"limit": "abc"}, {"cursor": "%00"}])
async def test_listings_refuse_what_their_lexicon_does(tmp_path: Path, name: str, parameters: dict[str, Any]) -> None:
    """Checklist 250."""
    async with serve(tmp_path) as serving:
        reply = await query(serving, name, **parameters)
        assert (reply.status, reply.json["error"]) == (400, "InvalidRequest")


async def test_an_empty_cursor_asks_for_the_first_page(tmp_path: Path) -> None:
    """Generated clients send one; only the stream refuses it (protocol.md section 19.2)."""
    async with serve(tmp_path) as serving:
        account(serving, 1)
        for name, key in (("listRepos", "repos"), ("listHosts", "hosts")):
            page = await query(serving, name, cursor="")
            assert page.json == (await query(serving, name)).json
            assert page.json[key]


async def test_paths_and_verbs_that_are_not_served(tmp_path: Path) -> None:
    """Checklist 244 to 247: JSON errors, 501 for what is a PDS's, Allow beside a 405, and the CORS preflight."""
    async with serve(tmp_path) as serving:
        for name in ("getBlob", "getBlocks", "listReposByCollection", "getHead"):
            reply = await query(serving, name)
            assert (reply.status, reply.json["error"]) == (501, "MethodNotImplemented")
        for path in ("/xrpc/com.atproto.sync.unheardOf", "/xrpc/", "/nothing", "/xrpc/app.bsky.feed.getTimeline"):
            reply = await serving.get(path)
            assert reply.status == 404
            assert set(reply.json) == {"error", "message"}
        reply = await serving.post("/xrpc/com.atproto.sync.listHosts", b"{}")
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
        reply = await serving.get("/xrpc/com.atproto.sync.requestCrawl")
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        reply = await request(serving.port, "OPTIONS", "/xrpc/com.atproto.sync.listHosts")
        assert reply.status == 204
        assert "GET" in reply.headers["access-control-allow-methods"]
        assert reply.headers["access-control-allow-origin"] == "*"
