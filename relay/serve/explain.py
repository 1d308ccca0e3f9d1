"""`/explain/host` and `/explain/account`: why something is not coming through, for whoever runs it. Public JSON.

Owns who may ask how often, and what is answered for names that are not known; the words are
`relay.serve.explainhost`'s and `relay.serve.explainaccount`'s. What is told is what the relay knows anyway and others
see in its stream. Reads rows in one short txn, changes nothing, asks nobody; a client address gets a few answers a
second (design section 4, "Bounds on strangers").
"""

from collections.abc import Callable, Iterator

from relay.net.exchange import Request, Response, json_response
from relay.net.limiter import Keyed, TokenBucket
from relay.net.proxies import address_group
from relay.serve.explainaccount import Known, describe_account
from relay.serve.explainhost import describe_host, whom_to_ask
from relay.serve.ratelimit import spend
from relay.serve.routes import QUERY, Route
from relay.serve.settings import ServeRoleSettings
from relay.serve.xrpc import HOSTNAME_CHARS_MAX, Refusal, bad_request, did_param, required
from relay.store.store import Store

ANSWERS_PER_SECOND = 2.0
ANSWERS_BURST = 20
ADDRESSES_MAX = 50_000


class Explanations:
    """Answers to owners of hosts and accounts. `now_ms` is the wall clock."""

    def __init__(self, store: Store, settings: ServeRoleSettings, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._settings = settings
        self._now_ms = now_ms
        self._budgets = Keyed(lambda now: TokenBucket(ANSWERS_PER_SECOND, ANSWERS_BURST, now), ADDRESSES_MAX)

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/explain/host", Route(QUERY, self.host)
        yield "/explain/account", Route(QUERY, self.account)

    async def host(self, request: Request) -> Response:
        """`?hostname=`: what becomes of everything that this host sends."""
        self._check_budget(request)
        hostname = _hostname(required(request.query, "hostname"))
        with self._store.view() as view:
            row, domain = view.host_named(hostname), view.domain_ban(hostname)
            notes = view.notes(row.host_id) if row is not None else []
        if row is None and domain is not None:
            refused = f"this relay does not read hosts of {domain}. {whom_to_ask(self._settings.contact)}"
            raise Refusal(400, "HostBanned", refused)
        if row is None:
            raise Refusal(
                404,
                "HostNotFound",
                "this relay has never read the host; a PDS makes itself known with "
                'POST /xrpc/com.atproto.sync.requestCrawl {"hostname": "..."}',
            )
        return json_response(200, describe_host(row, notes, self._settings, self._now_ms()))

    async def account(self, request: Request) -> Response:
        """`?did=`: what becomes of the events of this account."""
        self._check_budget(request)
        did = did_param(request.query)
        with self._store.view() as view:
            account, identity = view.account(did), view.identity(did)
            host = view.host(account.host_id) if account is not None else None
            notes = view.notes(did)
            senders = {host_id: view.host(host_id) for host_id in {note.host_id for note in notes}}
        if account is None or host is None:
            raise Refusal(
                404,
                "AccountNotFound",
                "no event of the account has passed here; /explain/host tells whether its PDS is read",
            )
        hostnames = {host_id: row.hostname for host_id, row in senders.items() if row is not None}
        known = Known(account, identity, host, notes, hostnames)
        return json_response(200, describe_account(did, known, self._settings, self._now_ms()))

    def _check_budget(self, request: Request) -> None:
        spend(self._budgets, address_group(request.client), "asked too often")


def _hostname(text: str) -> str:
    """The name in what people type: a hostname, or the URL of a PDS. Raises `Refusal`."""
    name = text.strip().lower().removeprefix("https://").removeprefix("http://").rstrip("/")
    if not 0 < len(name) <= HOSTNAME_CHARS_MAX:
        raise bad_request("hostname is not a hostname")
    return name
