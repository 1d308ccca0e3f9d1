"""Accounts for operators: look one up, list them, take one down and restore it.

Owns the requests and the list of takedowns. That a takedown stops content and emits `#account` is the store's doing
(`relay.store.localstatus`); what a DID's row means to consumers is `relay.verify.facts`'s.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from relay.net.exchange import Request, Response, json_response
from relay.protocol.cid import DAG_CBOR_PREFIX, to_text
from relay.protocol.syntax import format_datetime
from relay.serve.accountpages import account_page
from relay.serve.admin.hostviews import describe_note
from relay.serve.admin.inputs import did_of, known_host, success
from relay.serve.crawlrequest import Offload
from relay.serve.routes import PROCEDURE, QUERY, Route
from relay.serve.xrpc import Refusal, bad_request, body_of, did_param, limit_param, optional, page_cursor, page_param
from relay.store.accounts import LOCAL_STATUSES
from relay.store.policy import TAKEDOWN, Takedown, decoded
from relay.store.store import Store
from relay.store.view import View
from relay.verify.facts import AccountState, effective_status

_READS_MAX = 16  # of the account table for one page; among few hits it may be short, or empty


class DidBody(msgspec.Struct, frozen=True):
    """The input of `repo/takeDown` and `repo/reverseTakedown`; `purge` is ours."""

    did: str
    purge: bool = False


class Accounts:
    """Answers and changes about accounts."""

    def __init__(self, store: Store, *, offload: Offload, now_ms: Callable[[], int], takedowns_per_page: int) -> None:
        self._store = store
        self._offload = offload
        self._now_ms = now_ms
        self._takedowns_per_page = takedowns_per_page

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/admin/repo/takeDown", Route(PROCEDURE, self.take_down)
        yield "/admin/repo/reverseTakedown", Route(PROCEDURE, self.restore)
        yield "/admin/repo/takedowns", Route(QUERY, self.takedowns)
        yield "/admin/accounts", Route(QUERY, self.page)
        yield "/admin/account", Route(QUERY, self.account)

    async def take_down(self, request: Request) -> Response:
        """`repo/takeDown`: no content of the account from now on; consumers are told by `#account`."""
        body = self._known(request)
        await self._offload(partial(self._store.take_down, body.did, now_ms=self._now_ms(), purge=body.purge))
        return success()

    async def restore(self, request: Request) -> Response:
        """`repo/reverseTakedown`: the status of its host shows again; lifts a throttle too, as the reference does."""
        body = self._known(request)
        await self._offload(partial(self._store.restore, body.did, now_ms=self._now_ms()))
        return success()

    async def takedowns(self, request: Request) -> Response:
        """`repo/takedowns`: the DIDs, in order, a page of them."""
        after = page_param(request.query) or ""
        with self._store.view() as view:
            found = view.policy_page(TAKEDOWN, after, self._takedowns_per_page + 1)
        page = found[: self._takedowns_per_page]
        answer: dict[str, Any] = {"dids": [did for did, _ in page]}
        answer["takedowns"] = [_describe_takedown(did, decoded(value, Takedown)) for did, value in page]
        if len(found) > len(page):
            answer["cursor"] = page_cursor(page[-1][0])
        return json_response(200, answer)

    async def page(self, request: Request) -> Response:
        """`GET /admin/accounts`: in order of DID; `hostname`, `local` (a local status), `cursor`, `limit`."""
        limit, after = limit_param(request.query, 100), page_param(request.query) or ""
        hostname, local = optional(request.query, "hostname"), optional(request.query, "local") or ""
        if local and local not in LOCAL_STATUSES:
            raise bad_request(f"local must be one of {', '.join(LOCAL_STATUSES)}")
        host_id = known_host(self._store, hostname).host_id if hostname else None
        found = await account_page(
            self._store,
            after,
            limit,
            lambda row: local in ("", row.local_status),
            reads_max=_READS_MAX,
            host_id=host_id,
        )
        answer: dict[str, Any] = {"accounts": [_summary(did, row) for did, row in found.accounts]}
        if found.next_after is not None:
            answer["cursor"] = page_cursor(found.next_after)
        return json_response(200, answer)

    async def account(self, request: Request) -> Response:
        """`GET /admin/account?did=`: everything that is known of an account."""
        did = did_param(request.query)
        with self._store.view() as view:
            row = view.account(did)
            if row is None:
                raise _unknown()
            answer = _summary(did, row) | _describe(view, did, row)
        return json_response(200, answer)

    def _known(self, request: Request) -> DidBody:
        body = body_of(request.body, DidBody, '{"did": "did:plc:..."}')
        did_of(body.did)
        with self._store.view() as view:
            if view.account(body.did) is None:
                raise _unknown()
        return body


def _unknown() -> Refusal:
    return Refusal(404, "RepoNotFound", "this relay does not know the account")


def _summary(did: str, row: AccountState) -> dict[str, Any]:
    active, status = effective_status(row)
    return {
        "did": did,
        "active": active,
        "status": status,
        "localStatus": row.local_status or None,
        "upstreamActive": row.upstream_active,
        "upstreamStatus": row.upstream_status or None,
        "hostId": row.host_id,
        "rev": row.rev or None,
    }


def _describe(view: View, did: str, row: AccountState) -> dict[str, Any]:
    host, identity, takedown = view.host(row.host_id), view.identity(did), view.policy(TAKEDOWN + did, Takedown, None)
    return {
        "hostname": host.hostname if host is not None else None,
        "commit": to_text(DAG_CBOR_PREFIX + row.commit) if row.commit else None,
        "data": to_text(DAG_CBOR_PREFIX + row.data) if row.data else None,
        "upstreamSeq": row.upstream_seq,
        "epoch": row.epoch,
        "version": row.version,
        "identity": None
        if identity is None
        else {"pds": identity.host, "fetched": format_datetime(identity.fetched_ms), "tombstone": identity.tombstone},
        "takedown": _describe_takedown(did, takedown) if takedown is not None else None,
        "lastDrops": [describe_note(note) for note in view.notes(did)],
    }


def _describe_takedown(did: str, takedown: Takedown) -> dict[str, Any]:
    shown: dict[str, Any] = {"did": did, "since": format_datetime(takedown.since_ms), "purge": takedown.purge}
    if takedown.purge:
        shown["purged"] = {
            "segments": takedown.segments,
            "segmentsDone": takedown.purged_segments,
            "frames": takedown.purged_frames,
            "finished": format_datetime(takedown.purged_ms) if takedown.purged_ms else None,
        }
    return shown
