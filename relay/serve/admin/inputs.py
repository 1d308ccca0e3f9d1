"""What operators send, as values, or a `Refusal` that says what was expected."""

from relay.net.errors import HostRefused
from relay.net.exchange import Request, Response, json_response
from relay.net.guard import check_hostname
from relay.protocol.syntax import is_did
from relay.serve.xrpc import Refusal, bad_request, optional, required
from relay.store.hosts import HostRow
from relay.store.store import Store


def flag(request: Request, name: str, *, default: bool | None = None) -> bool:
    """A query parameter that is true or false. Raises `Refusal`."""
    text = optional(request.query, name)
    if text is None and default is not None:
        return default
    if text is None or text.lower() not in ("true", "false", "1", "0"):
        raise bad_request(f"{name} must be true or false")
    return text.lower() in ("true", "1")


def did_of(text: str) -> str:
    """A DID. Raises `Refusal`."""
    if not is_did(text):
        raise bad_request("did is not a valid DID")
    return text


def known_host(store: Store, text: str) -> HostRow:
    """The row of a host by its name or URL. Raises `Refusal`: 400 for what is no name, 404 for one without a row."""
    try:
        name = check_hostname(text, allow_private=True, allow_insecure=True).name
    except HostRefused as refused:
        raise Refusal(400, "BadRequest", str(refused)) from None
    with store.view() as view:
        host = view.host_named(text.lower()) or view.host_named(name)
    if host is None:
        raise Refusal(404, "HostNotFound", "this relay does not know the host")
    return host


def host_param(store: Store, request: Request, name: str = "host") -> HostRow:
    """The host named by a query parameter. Raises `Refusal`."""
    return known_host(store, required(request.query, name))


def success() -> Response:
    """As the reference relay says that it did something."""
    return json_response(200, {"success": "true"})
