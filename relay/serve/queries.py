"""The read side of the XRPC API: hosts, repos, and the redirect to an account's own host.

Owns what protocol.md section 19.3 says about each query. Reads the state env in short txns and never changes it.
Declared errors are answered with 400 as the reference PDS does (protocol.md section 20); clients go by the name.
"""

from collections.abc import Iterator
from urllib.parse import urlencode

import trio

from relay.net.exchange import Request, Response, json_response
from relay.protocol.cid import DAG_CBOR_PREFIX, to_text
from relay.serve.accountpages import ROWS_PER_TXN, account_page
from relay.serve.routes import QUERY, Route
from relay.serve.xrpc import (
    HOSTNAME_CHARS_MAX,
    Refusal,
    bad_request,
    did_param,
    limit_param,
    page_cursor,
    page_number,
    page_param,
    required,
    tid_param,
)
from relay.store.hosts import HostRow
from relay.store.store import Store
from relay.verify.facts import AccountState, effective_status

READS_MAX = 64  # for one page of repos: among accounts without a commit it may be short, or empty

_INACTIVE_ERRORS = {
    "takendown": ("RepoTakendown", "the account is taken down"),
    "suspended": ("RepoSuspended", "the account is suspended"),
    "deleted": ("RepoNotFound", "the account is deleted"),  # no name of its own (protocol.md section 24, #21)
    "deactivated": ("RepoDeactivated", "the account is deactivated"),
}


class Queries:
    """Answers out of one worker's view of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        for name, endpoint in (
            ("listHosts", self.list_hosts),
            ("getHostStatus", self.host_status),
            ("listRepos", self.list_repos),
            ("getRepoStatus", self.repo_status),
            ("getLatestCommit", self.latest_commit),
            ("getRepo", self.repo),
        ):
            yield f"/xrpc/com.atproto.sync.{name}", Route(QUERY, endpoint)

    async def list_hosts(self, request: Request) -> Response:
        """A page of hosts, first seen first (checklist 231)."""
        limit = limit_param(request.query, 200)
        after_id = page_number(request.query)
        hosts: list[HostRow] = []
        while len(hosts) <= limit:  # one more than asked for tells whether this is the last page
            with self._store.view() as view:
                rows = view.hosts(after_id, min(ROWS_PER_TXN, limit + 1 - len(hosts)))
            hosts += rows
            if not rows:
                break
            after_id = rows[-1].host_id
            await trio.lowlevel.checkpoint()
        page: dict[str, object] = {"hosts": [host_summary(host) for host in hosts[:limit]]}
        if len(hosts) > limit:
            page["cursor"] = page_cursor(str(hosts[limit - 1].host_id))
        return json_response(200, page)

    async def host_status(self, request: Request) -> Response:
        """What we know of one host (checklist 233)."""
        hostname = required(request.query, "hostname").lower()
        if len(hostname) > HOSTNAME_CHARS_MAX:
            raise bad_request("hostname is not a hostname")
        with self._store.view() as view:
            host = view.host_named(hostname)
        if host is None:
            raise Refusal(400, "HostNotFound", "this relay does not know the host")
        return json_response(200, host_summary(host))

    async def list_repos(self, request: Request) -> Response:
        """A page of repos, those without a commit left out (checklist 230)."""
        limit, after_did = limit_param(request.query, 500), page_param(request.query) or ""
        found = await account_page(self._store, after_did, limit, lambda row: bool(row.rev), reads_max=READS_MAX)
        page: dict[str, object] = {"repos": [repo_summary(did, account) for did, account in found.accounts]}
        if found.next_after is not None:
            page["cursor"] = page_cursor(found.next_after)
        return json_response(200, page)

    async def repo_status(self, request: Request) -> Response:
        """Hosting status of any account we have a row of, active or not (checklist 223, 224)."""
        did = did_param(request.query)
        account = self._account(did)
        active, status = effective_status(account)
        answer: dict[str, object] = {"did": did, "active": active}
        if status:
            answer["status"] = status
        if active and account.rev:
            answer["rev"] = account.rev
        return json_response(200, answer)

    async def latest_commit(self, request: Request) -> Response:
        """The last commit accepted for an active account (checklist 226, 227)."""
        account = self._active_account(did_param(request.query))
        if not account.rev:
            raise Refusal(400, "RepoNotFound", "this relay has seen no commit of the account yet")
        return json_response(200, {"cid": _head(account), "rev": account.rev})

    async def repo(self, request: Request) -> Response:
        """302 to the account's own host (checklist 242, 243).

        The target is built from the stored identity and the validated parameters, from nothing else in the request.
        """
        did, since = did_param(request.query), tid_param(request.query, "since")
        self._active_account(did)
        with self._store.view() as view:
            identity = view.identity(did)
            pds = identity.host if identity else None
            host = view.host_named(pds) if pds else None
        if pds is None:
            raise Refusal(400, "RepoNotFound", "no PDS is known for the account")
        scheme = "http" if host is not None and host.insecure else "https"
        query = urlencode({"did": did} | ({"since": since} if since else {}), safe=":")
        return Response(302, (("Location", f"{scheme}://{pds}/xrpc/com.atproto.sync.getRepo?{query}"),))

    def _account(self, did: str) -> AccountState:
        with self._store.view() as view:
            account = view.account(did)
        if account is None:
            raise Refusal(400, "RepoNotFound", "this relay does not know the account")
        return account

    def _active_account(self, did: str) -> AccountState:
        account = self._account(did)
        active, status = effective_status(account)
        if not active:
            fallback = ("RepoDeactivated", f"the account is not active: {status or 'its host gives no reason'}")
            error, message = _INACTIVE_ERRORS.get(status or "", fallback)
            raise Refusal(400, error, message)
        return account


def host_summary(host: HostRow) -> dict[str, object]:
    """The lexicon's `host` object: no scheme, and no seq for a host that was never read."""
    summary: dict[str, object] = {"hostname": host.hostname}
    if host.cursor is not None:
        summary["seq"] = host.cursor
    summary["accountCount"] = host.account_count
    summary["status"] = host.status
    return summary


def repo_summary(did: str, account: AccountState) -> dict[str, object]:
    """The lexicon's `repo` object of listRepos."""
    active, status = effective_status(account)
    summary: dict[str, object] = {"did": did, "head": _head(account), "rev": account.rev, "active": active}
    if status:
        summary["status"] = status
    return summary


def _head(account: AccountState) -> str:
    return to_text(DAG_CBOR_PREFIX + account.commit)
