"""The front page for people with a browser, over the plain text that everybody else gets (`relay.serve.pages`)."""

from collections.abc import Iterator

from relay.net.exchange import Request, Response
from relay.serve.dashboard.files import File
from relay.serve.pages import Pages
from relay.serve.routes import QUERY, Route

_BY_ACCEPT = ("Vary", "Accept")


class Front:
    """`/` in two shapes, and the files of the one for browsers. `contact` is the operator's, if any."""

    def __init__(self, pages: Pages, contact: str) -> None:
        self._plain = pages.front
        self._page = File("front.html", operator=f"Operator of this relay: {contact}" if contact else "")

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here; `/` replaces the plain one."""
        yield "/", Route(QUERY, self.front)
        yield "/front.css", File("front.css").route()
        yield "/front.js", File("front.js").route()
        yield "/prose.js", File("prose.js").route()
        yield "/favicon.ico", File("icon.svg").route()

    async def front(self, request: Request) -> Response:
        """The page for who asks for HTML, as browsers do and curl does not."""
        wants_page = "text/html" in request.headers.get("accept", "")
        response = await (self._page.answer(request) if wants_page else self._plain(request))
        return response._replace(headers=(*response.headers, _BY_ACCEPT))
