"""The table of routes itself: what becomes of an endpoint's own faults."""

import pytest

from relay.net.exchange import Request, Response
from relay.observe.metrics import Metrics
from relay.serve.ratelimit import RequestLimit
from relay.serve.routes import QUERY, Route, Router


async def fail(_request: Request) -> Response:
    raise KeyError("a fault of ours")


async def test_an_endpoint_that_fails_is_counted_and_its_error_goes_on() -> None:
    """The server answers it with a 500 and logs it."""
    metrics = Metrics()
    router = Router({"/bad": Route(QUERY, fail)}, metrics.http, limit=RequestLimit(10), now_ms=lambda: 0)

    with pytest.raises(KeyError):
        await router.answer(Request("GET", "/bad", (), {}, b"", "192.0.2.1"))

    lines = metrics.render().decode().splitlines()
    assert 'relay_http_requests_total{path="/bad",status="500"} 1.0' in lines
    assert "relay_http_requests_seconds_count 1.0" in lines
