"""The admin API from the outside: what `relay hosts`, `accounts`, `domains` and `consumers` ask a running relay.

Owns where the password comes from and what an error answer becomes. The password is never printed, and not taken from
the command line, where everybody on the machine could read it.
"""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from relay import __version__
from relay.app.settings import passwords_in
from relay.net.dial import Dialer
from relay.net.errors import NetError
from relay.net.http import HttpClient

DEFAULT_URL = "http://127.0.0.1:2470"
PASSWORD = "RELAY_ADMIN_PASSWORD"  # noqa: S105 -- the name of a variable
PASSWORD_FILE = "RELAY_ADMIN_PASSWORD_FILE"  # noqa: S105 -- as above
ANSWER_SECONDS_MAX = 30.0
ANSWER_BYTES_MAX = 64 << 20


class OperationFailed(Exception):  # noqa: N818 -- the answer to a person, not an error of this program
    """The relay cannot be asked or refuses; the message is a line for people."""


class AdminClient:
    """Asks the relay at `url` as its operator."""

    def __init__(self, url: str, password: str) -> None:
        self._url = url.rstrip("/")
        self._client = HttpClient(Dialer(allow_private=True, allow_insecure=True), f"atproto-relay/{__version__} ops")
        credentials = base64.b64encode(f"admin:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}

    async def get(self, path: str, **parameters: Any) -> Any:
        """The JSON that `/admin/path` answers. Raises `OperationFailed`."""
        return await self._ask("GET", path, parameters, None)

    async def post(self, path: str, body: Any = None, **parameters: Any) -> Any:
        """As `get`, for a change."""
        return await self._ask("POST", path, parameters, msgspec.json.encode(body) if body is not None else b"")

    async def pages(self, path: str, key: str, limit: int, **parameters: Any) -> list[Any]:
        """Up to `limit` items of a listing that goes on with a cursor."""
        items: list[Any] = []
        cursor: str | None = None
        while len(items) < limit:
            page = await self.get(path, **parameters, cursor=cursor, limit=min(1_000, limit - len(items)))
            items += page[key]
            cursor = page.get("cursor")
            if cursor is None:
                break
        return items

    async def _ask(self, method: str, path: str, parameters: Mapping[str, Any], body: bytes | None) -> Any:
        given = {name: value for name, value in parameters.items() if value is not None}
        url = f"{self._url}/admin/{path}" + (f"?{urlencode(given)}" if given else "")
        try:
            response = await self._client.request(
                method,
                url,
                timeout_seconds=ANSWER_SECONDS_MAX,
                body_bytes_max=ANSWER_BYTES_MAX,
                headers=self._headers,
                body=body,
            )
        except NetError as error:
            raise OperationFailed(f"{self._url} does not answer: {error}") from error
        answer = _json(response.body)
        if response.status == 200:
            return answer
        message = answer.get("message") if isinstance(answer, dict) else None
        raise OperationFailed(f"{message or 'no reason given'} (HTTP {response.status})")


def password_of(environ: Mapping[str, str] | None = None) -> str:
    """The first password that the environment gives or names a file of. Raises `OperationFailed` when there is none."""
    environ = os.environ if environ is None else environ
    text = environ.get(PASSWORD, "")
    if not text and PASSWORD_FILE in environ:
        try:
            text = Path(environ[PASSWORD_FILE]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OperationFailed(f"{PASSWORD_FILE} cannot be read: {error}") from error
    found = passwords_in(text)
    if not found:
        raise OperationFailed(f"no password: set {PASSWORD} or {PASSWORD_FILE}")
    return found[0]


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
