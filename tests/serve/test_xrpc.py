"""Parameters, refusals and page cursors, without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.serve import xrpc
from relay.serve.xrpc import Refusal

DID = "did:plc:abcdefghijklmnopqrstuvwx"


@pytest.mark.parametrize("text", ["0", "1001", "abc", "", "-1", "+5", "1.0", " 5", "5 ", "\u0665", "9" * 5000])
def test_a_limit_out_of_range_is_a_400(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        xrpc.limit_param([("limit", text)], 500)
    assert (refused.value.status, refused.value.error) == (400, "InvalidRequest")


def test_a_limit_in_range_counts_and_none_is_the_default() -> None:
    assert xrpc.limit_param([("limit", "1")], 500) == 1
    assert xrpc.limit_param([("limit", "1000")], 500) == 1000
    assert xrpc.limit_param([], 500) == 500


@pytest.mark.parametrize("text", ["", "4", "13", "-5", "5.0", "\u0665", "9" * 5000])
def test_a_number_out_of_its_bounds_or_none_at_all_is_a_400(text: str) -> None:
    with pytest.raises(Refusal, match="n must be a whole number from 5 to 12"):
        xrpc.whole_number([("n", text)], "n", 7, 12, minimum=5)


def test_a_number_without_a_default_must_be_given() -> None:
    assert xrpc.whole_number([("n", "12")], "n", None, 12) == 12
    assert xrpc.whole_number([], "n", 0, 12, minimum=5) == 0
    with pytest.raises(Refusal):
        xrpc.whole_number([], "n", None, 12)


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "1"), (0.2, "1"), (10.0, "10"), (10.1, "11")])
def test_whoever_asks_too_often_is_told_when_to_come_back(seconds: float, told: str) -> None:
    """In whole seconds and never too early."""
    refusal = xrpc.too_many("too much", seconds)
    assert (refusal.status, refusal.error, refusal.headers) == (429, "RateLimitExceeded", (("Retry-After", told),))


@pytest.mark.parametrize("query", [[], [("did", "")], [("did", "did:plc")], [("did", DID), ("did", DID)]])
def test_a_did_must_be_there_once_and_be_one(query: list[tuple[str, str]]) -> None:
    with pytest.raises(Refusal):
        xrpc.did_param(query)


def test_a_good_did_passes_and_other_parameters_are_ignored() -> None:
    assert xrpc.did_param([("x", "1"), ("did", DID), ("x", "2")]) == DID


def test_since_must_be_a_tid() -> None:
    assert xrpc.tid_param([("since", "3jzfcijpj2z2a")], "since") == "3jzfcijpj2z2a"
    assert xrpc.tid_param([], "since") is None
    with pytest.raises(Refusal):
        xrpc.tid_param([("since", "yesterday")], "since")


@given(st.text(min_size=1, max_size=200))
def test_a_page_cursor_comes_back_as_the_key_it_was_made_of(key: str) -> None:
    assert xrpc.page_param([("cursor", xrpc.page_cursor(key))]) == key


def test_an_empty_page_cursor_is_the_first_page() -> None:
    assert xrpc.page_param([("cursor", "")]) is None
    assert xrpc.page_param([]) is None


@given(st.integers(0, 10**18 - 1))
def test_a_page_of_numbers_goes_on_where_it_ended(number: int) -> None:
    assert xrpc.page_number([("cursor", xrpc.page_cursor(str(number)))]) == number


def test_a_page_of_numbers_begins_at_0_and_goes_on_from_no_other_key() -> None:
    assert xrpc.page_number([]) == xrpc.page_number([("cursor", "")]) == 0
    for key in ("a", "-1", "\u0665", "9" * 19):
        with pytest.raises(Refusal, match="gave out"):
            xrpc.page_number([("cursor", xrpc.page_cursor(key))])


@given(st.text(min_size=1, max_size=50))
def test_any_other_page_cursor_is_refused_or_stands_for_one_key(text: str) -> None:
    """No text crashes the parser, and no two texts mean the same page."""
    try:
        key = xrpc.page_param([("cursor", text)])
    except Refusal:
        return
    assert key is not None
    assert xrpc.page_cursor(key) == text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"hostname":5}',
        b'{"hostname":null}',
        b'{"hostname":""}',
        b'{"hostname":"\xff"}',
        b'{"hostname":"' + b"a" * 300 + b'"}',
        b'{"x":' + b"[" * 20_000,
        b"hostname=pds.example.com",
    ],
)
def test_a_crawl_request_without_a_hostname_is_a_400(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        xrpc.hostname_body(body)
    assert refused.value.status == 400


def test_a_crawl_request_names_a_host_and_may_hold_more() -> None:
    assert xrpc.hostname_body(b'{"hostname":"pds.example.com","x":1}') == "pds.example.com"
