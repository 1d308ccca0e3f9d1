"""The dashboard's own paths: its files, login and logout. What it shows and changes goes through `/admin`."""

from collections.abc import Iterator

import msgspec

from relay.net.exchange import Request, Response, json_response
from relay.serve.admin.audit import AuditLog
from relay.serve.admin.auth import Gate
from relay.serve.admin.inputs import success
from relay.serve.admin.session import COOKIE, Sessions, cookie_value, set_cookie
from relay.serve.dashboard.files import File
from relay.serve.routes import PROCEDURE, QUERY, Route
from relay.serve.xrpc import body_of

FILES = {
    "/dash": "dash.html",
    "/dash/": "dash.html",
    "/dash/dash.css": "dash.css",
    "/dash/dash.js": "dash.js",
    "/dash/api.js": "api.js",
    "/dash/view.js": "view.js",
    "/dash/prose.js": "prose.js",
    "/dash/charts.js": "charts.js",
    "/dash/overview.js": "overview.js",
    "/dash/hosts.js": "hosts.js",
    "/dash/host.js": "host.js",
    "/dash/accounts.js": "accounts.js",
    "/dash/consumers.js": "consumers.js",
    "/dash/policy.js": "policy.js",
    "/dash/icon.svg": "icon.svg",
}


class LoginBody(msgspec.Struct, frozen=True):
    """The input of `POST /dash/login`."""

    password: str


class Dashboard:
    """Files for everybody, sessions for who knows a password."""

    def __init__(self, gate: Gate, sessions: Sessions, audit: AuditLog) -> None:
        self._gate = gate
        self._sessions = sessions
        self._audit = audit

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        for path, name in FILES.items():
            yield path, File(name).route()
        yield "/dash/session", Route(QUERY, self.session, limited=False)
        yield "/dash/login", Route(PROCEDURE, self.login)
        yield "/dash/logout", Route(PROCEDURE, self.logout)

    async def session(self, request: Request) -> Response:
        """`GET /dash/session`: whether the page has to show its login form, and whether there is one at all."""
        valid = self._sessions.is_valid(cookie_value(request.headers.get("cookie", ""), COOKIE))
        return json_response(200, {"enabled": self._gate.is_open, "valid": valid}, (("Cache-Control", "no-store"),))

    async def login(self, request: Request) -> Response:
        """`POST /dash/login`: a session for the password."""
        self._gate.check_origin(request)
        password = body_of(request.body, LoginBody, '{"password": "..."}').password
        await self._gate.check_password(request, password)
        await self._audit.note(request, "dashboard", "login")
        cookie = set_cookie(request, self._sessions.issue())
        return json_response(200, {"success": "true"}, (cookie, ("Cache-Control", "no-store")))

    async def logout(self, request: Request) -> Response:
        """`POST /dash/logout`: the browser forgets its session."""
        self._gate.check_origin(request)
        return success()._replace(headers=(set_cookie(request, ""), ("Cache-Control", "no-store")))
