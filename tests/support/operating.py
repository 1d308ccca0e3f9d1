"""An operator for tests: Basic auth, and a serve worker that has a password."""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from relay.crawl.settings import HostSettings
from relay.serve.settings import ConsumerSettings, OperatorSettings, ServeRoleSettings
from relay.verify.facts import AccountState
from tests.support.log_writer import HOSTNAME, START_MS, did_of
from tests.support.serving import LOG, Reply, Serving, request, serve

PASSWORD = "correct horse battery staple"
OTHER_PASSWORD = "the next one"
HOSTS = HostSettings(allow_private=True, allow_insecure=True, request_crawl=True, new_per_day=7)
SETTINGS = ServeRoleSettings(
    log=LOG,
    hosts=HOSTS,
    consumers=ConsumerSettings(),
    operator=OperatorSettings(failure_seconds=0.01),
    admin_passwords=(PASSWORD, OTHER_PASSWORD),
)
DID = did_of(7)


def basic(password: str = PASSWORD, user: str = "admin") -> dict[str, str]:
    """The header of Basic auth."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class Desk:
    """Asks a worker as its operator."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.store = serving.store

    async def get(self, path: str, **headers: str) -> Reply:
        return await request(self.serving.port, "GET", f"/admin/{path}", headers={**basic(), **headers})

    async def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return await request(self.serving.port, "POST", f"/admin/{path}", data, {**basic(), **headers})

    def host(self, hostname: str = HOSTNAME) -> Any:
        """A host's row as it is stored."""
        with self.store.view() as view:
            return view.host_named(hostname)

    def add(self, hostname: str) -> None:
        """A host that is known."""
        self.store.add_host(hostname, insecure=False, now_ms=START_MS)

    def account(self, did: str = DID) -> Any:
        """An account's row as it is stored."""
        with self.store.view() as view:
            return view.account(did)


@asynccontextmanager
async def operating(tmp_path: Path, settings: ServeRoleSettings = SETTINGS) -> AsyncGenerator[Desk, None]:
    """A worker with an operator and one account; again on the same folder is a restart."""
    async with serve(tmp_path, settings) as serving:
        desk = Desk(serving)
        if desk.account() is None:
            state = AccountState(
                host_id=serving.log.host.host_id, rev="3lkzofy3xkc2a", data=b"d" * 32, commit=b"c" * 32
            )
            serving.log.put_account(DID, state)
        yield desk
