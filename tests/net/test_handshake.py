"""What is judged, and what is left out, before the protocol library sees a request."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.handshake import is_key, plain_request, split_head
from tests.net.frames import upgrade_request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@given(st.binary(max_size=40))
def test_a_key_is_sixteen_bytes(nonce: bytes) -> None:
    assert is_key(base64.b64encode(nonce).decode()) == (len(nonce) == 16)


@pytest.mark.parametrize(
    "text", ["", "x", KEY[:-1], KEY + "=", f"{KEY}, {KEY}", KEY.replace("d", "é"), "-" * 22 + "=="]
)
def test_a_key_is_base64(text: str) -> None:
    assert not is_key(text)


@given(st.binary(max_size=100))
def test_what_follows_a_request_is_kept_to_the_byte(rest: bytes) -> None:
    """And of its head only the key."""
    request = upgrade_request(b"X: \xff\r\n")
    assert split_head(request + rest) == (request, rest)
    head, kept = split_head(plain_request(KEY, request + rest))
    assert kept == rest
    assert b"Sec-WebSocket-Key: " + KEY.encode() + b"\r\n" in head
    assert b"X:" not in head
