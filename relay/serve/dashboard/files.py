"""The files of the pages, read once, with what every answer that a browser renders has to say about itself.

Owns the content security policy: nothing inline, nothing from elsewhere, in no frame. The files are small and few; they
are in the package, so they cannot be out of step with the API that they call.
"""

import hashlib
from html import escape
from pathlib import Path

from relay.net.exchange import Headers, Request, Response
from relay.serve.routes import QUERY, Route

FOLDER = Path(__file__).parent / "files"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Headers = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
)


class File:
    """One file, and how it is answered: whole, or 304 to a browser that has it.

    `texts` take the places in the file that are called `{{name}}`; they may hold anything.
    """

    def __init__(self, name: str, **texts: str) -> None:
        path = FOLDER / name
        self._body = path.read_bytes()
        for place, text in texts.items():
            self._body = self._body.replace(f"{{{{{place}}}}}".encode(), escape(text).encode())
        self._etag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'
        self._headers = (
            ("Content-Type", _TYPES[path.suffix]),
            ("Cache-Control", "no-cache"),
            ("ETag", self._etag),
            *PAGE_HEADERS,
        )

    async def answer(self, request: Request) -> Response:
        """The file."""
        if self._etag in request.headers.get("if-none-match", ""):
            return Response(304, self._headers)
        return Response(200, self._headers, self._body)

    def route(self) -> Route:
        """For a table of routes."""
        return Route(QUERY, self.answer, limited=False)
