"""`relay.protocol.syntax`: public vectors, known answers at every border, and properties of the two hot matchers."""

import re
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import syntax
from relay.protocol.errors import IdentifierError
from tests.support.shared import shared_dir

CHECKS: dict[str, Callable[[str], bool]] = {
    "did": syntax.is_did,
    "handle": syntax.is_handle,
    "nsid": lambda text: syntax.is_repo_path(text + "/self"),
    "recordkey": lambda text: syntax.is_repo_path("a.b.c/" + text),
    "tid": syntax.is_tid,
    "datetime": syntax.is_datetime,
}
LABEL_63 = "o" * 63
LETTERS = set(string.ascii_letters)
ALPHANUMERIC = LETTERS | set(string.digits)


def lines(name: str) -> list[str]:
    """The cases of a vector file: never trimmed, blank and `#` lines left out (checklist 277)."""
    text = (shared_dir() / "vectors" / "atproto" / "syntax" / name).read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line and not line.startswith("#")]


@pytest.mark.parametrize("name", CHECKS)
def test_valid_vectors(name: str) -> None:
    """Checklist 140, 189, 271, 272, 275."""
    cases = lines(f"{name}_syntax_valid.txt")
    assert cases
    assert [case for case in cases if not CHECKS[name](case)] == []


@pytest.mark.parametrize("name", CHECKS)
def test_invalid_vectors(name: str) -> None:
    """Checklist 140, 189, 271, 272, 275, 277."""
    cases = lines(f"{name}_syntax_invalid.txt")
    assert cases
    assert [case for case in cases if CHECKS[name](case)] == []


def test_datetimes_of_valid_shape_that_do_not_exist() -> None:
    assert [case for case in lines("datetime_parse_invalid.txt") if syntax.is_datetime(case)] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("did", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
        ("did", "did:m:v"),
        ("did", "did:method::::val"),
        ("did", "did:web:localhost%3A1234"),
        ("did", "did:m:" + "v" * 2042),
        ("handle", "a.co"),
        ("handle", "8.CN"),
        ("handle", f"short.{LABEL_63}.test"),
        ("handle", f"{LABEL_63}." * 3 + "o" * 61),
        ("nsid", "a.b.c"),
        ("nsid", "cn.8.lex.stuff"),
        ("nsid", f"com.{LABEL_63}.foo"),
        ("nsid", f"com.example.{LABEL_63}"),
        ("nsid", f"{LABEL_63}." * 4 + "o" * 61),
        ("nsid", "com." + "middle." * 40 + "foo"),  # an authority of 283: only the total is limited (checklist 271)
        ("recordkey", ":"),
        ("recordkey", "..."),
        ("recordkey", "self."),
        ("recordkey", "pre:fix"),
        ("recordkey", "o" * 512),
        ("tid", "2222222222222"),
        ("tid", "3jzfcijpj2z2a"),
        ("tid", "jzzzzzzzzzzzz"),  # sets bit 63
        ("datetime", "1985-04-12T23:20:50.123Z"),
        ("datetime", "1985-04-12T23:20:50+01:45"),
        ("datetime", "0000-02-29T00:00:00Z"),
        ("datetime", "0000-01-01T01:00:00+01:00"),
    ],
)
def test_valid(name: str, text: str) -> None:
    """Checklist 140, 189, 271, 272, 275."""
    assert CHECKS[name](text)
    assert not CHECKS[name](text + "\n"), "a newline at the end is not forgiven"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("did", "did:m:" + "v" * 2043),
        ("did", "did:m:"),
        ("did", "did:M:v"),
        ("did", "did:m:v%"),
        ("did", "did:m:v/w"),
        ("did", "did:m:\u0660"),
        ("handle", "a"),
        ("handle", "127.0.0.1"),
        ("handle", "john.test."),
        ("handle", "a-.test"),
        ("handle", f"short.{LABEL_63}o.test"),
        ("handle", f"{LABEL_63}." * 3 + "o" * 62),
        ("handle", "\u212a.test"),
        ("nsid", "a.b"),
        ("nsid", "com.example.foo.2"),
        ("nsid", f"{LABEL_63}." * 4 + "o" * 62),
        ("nsid", "com.example.foo-bar"),
        ("nsid", "com." + "middle." * 45 + "foo"),
        ("recordkey", ""),
        ("recordkey", "."),
        ("recordkey", ".."),
        ("recordkey", "#extra"),  # a case in the public file that looks like a comment
        ("recordkey", "o" * 513),
        ("tid", "kzzzzzzzzzzzz"),
        ("tid", "3jzfcijpj2z21"),
        ("tid", "3jzfcijpj2z2"),
        ("datetime", "1985-04-12T23:20:50.123-00:00"),
        ("datetime", "1985-02-29T00:00:00Z"),
        ("datetime", "1985-04-12T23:20:60Z"),
        ("datetime", "0000-01-01T00:59:00+01:00"),
        ("datetime", "1985-04-12T23:20:50\u0660Z"),
    ],
)
def test_invalid(name: str, text: str) -> None:
    """Checklist 140, 189, 271, 272, 275."""
    assert not CHECKS[name](text)


@pytest.mark.parametrize(
    ("path", "is_valid"),
    [
        ("app.bsky.feed.post/3jqfcqzm3fo2j", True),
        ("a.b.c/self", True),
        ("a.b.c/...", True),
        ("a-b.c1.d.e.f/:", True),
        ("a.b.c/" + "o" * 512, True),
        ("com." + "middle." * 40 + "foo/" + "o" * 512, True),
        ("a/b", False),
        ("/x", False),
        ("a.b.c/", False),
        ("a.b.c", False),
        ("a.b.c/d/e", False),
        ("/a.b.c/d", False),
        ("a.b.c/.", False),
        ("a.b.c/..", False),
        ("a.b.c/" + "o" * 513, False),
        ("a.b.c/x\n", False),
        ("a.b.c//x", False),
        ("com." + "middle." * 45 + "foo/x", False),
        (f"com.{LABEL_63}o.foo/x", False),
    ],
)
def test_repo_path(path: str, is_valid: bool) -> None:
    """Exactly collection and record key, with the limits of both (checklist 273)."""
    assert syntax.is_repo_path(path) is is_valid
    assert syntax.is_repo_path_bytes(path.encode()) is is_valid


PIECES = st.sampled_from(
    ["a", "b.", ".", "..", "-", "/", "a.b.c/", "app.bsky.feed", "1", "Z", ":", "\n", "é", "x" * 60]
)


@given(st.lists(PIECES, max_size=10).map("".join))
def test_repo_path_is_nsid_slash_record_key(path: str) -> None:
    """The quick branch for common paths accepts nothing that the definition does not, and the reverse."""
    collection, slash, key = path.partition("/")
    expected = bool(slash) and defined_nsid(collection) and defined_record_key(key)
    assert syntax.is_repo_path(path) is expected
    assert syntax.is_repo_path_bytes(path.encode()) is expected


def defined_nsid(text: str) -> bool:
    """An NSID by the words of the specification."""
    labels = text.split(".")
    return (
        len(labels) >= 3
        and len(text) <= 317
        and all(map(is_label, labels))
        and {labels[0][0], labels[-1][0]} <= LETTERS
        and "-" not in labels[-1]
    )


def is_label(text: str) -> bool:
    return 1 <= len(text) <= 63 and set(text) <= ALPHANUMERIC | {"-"} and "-" not in (text[0], text[-1])


def defined_record_key(text: str) -> bool:
    """A record key by the words of the specification."""
    return 1 <= len(text) <= 512 and text not in {".", ".."} and set(text) <= ALPHANUMERIC | set("._:~-")


def test_record_key_characters_are_those_of_record_keys() -> None:
    allowed = {chr(code) for code in range(256) if CHECKS["recordkey"]("a" + chr(code))}
    assert set(syntax.RECORD_KEY_CHARS.decode()) == allowed


@pytest.mark.parametrize(
    ("did", "public", "localhost"),
    [
        ("did:plc:ewvi7nxzyoun6zhxrhs64oiz", True, True),
        ("did:plc:ewvi7nxzyoun6zhxrhs64oi", False, False),
        ("did:plc:ewvi7nxzyoun6zhxrhs64oi1", False, False),
        ("did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ", False, False),
        ("did:web:example.com", True, True),
        ("did:web:Example.com", False, False),
        ("did:web:a.com:b", False, False),
        ("did:web:a.com%3A8080", False, False),
        ("did:web:com", False, False),
        ("did:web:127.0.0.1", False, False),
        ("did:web:x.local", False, False),
        ("did:web:x.onion", False, False),
        ("did:web:x.test", False, True),
        ("did:web:localhost", False, True),
        ("did:web:localhost%3A1234", False, True),
        ("did:web:localhost%3A", False, False),
        ("did:web:localhost%3A0", False, False),
        ("did:web:localhost%3A65536", False, False),
        ("did:web:localhost%3A01", False, False),
        ("did:key:zQ3shZc2QzApp2oymGvQbzP8eKheVshBHbU4ZYjeXqwSKEn6N", False, False),
    ],
)
def test_supported_dids(did: str, public: bool, localhost: bool) -> None:
    """Checklist 141, 142, 146 to 148: did:plc of its shape, did:web of a public host, localhost by configuration."""
    assert syntax.is_supported_did(did) is public
    assert syntax.is_supported_did(did, allow_localhost=True) is localhost


def test_method_and_web_host() -> None:
    assert syntax.did_method("did:plc:ewvi7nxzyoun6zhxrhs64oiz") == "plc"
    assert syntax.did_method("did:web:example.com") == "web"
    assert syntax.did_method("did:ethr:0xb9c5") == "ethr"
    assert syntax.did_web_host("did:web:pds.example.com") == "pds.example.com"
    assert syntax.did_web_host("did:web:localhost%3A1234", allow_localhost=True) == "localhost:1234"
    for did in ("did:web:localhost%3A1234", "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:x.local"):
        with pytest.raises(IdentifierError):
            syntax.did_web_host(did)


@pytest.mark.parametrize(
    ("name", "public", "localhost"),
    [
        ("pds.example.com", True, True),
        ("PDS.Example.COM", True, True),
        ("pds.local", False, False),
        ("pds.INTERNAL", False, False),
        ("pds.test", False, True),
        ("localhost", False, True),
        ("127.0.0.1", False, False),
        ("::1", False, False),
        ("example.com:443", False, False),
        ("example.com.", False, False),
        ("", False, False),
    ],
)
def test_hostname(name: str, public: bool, localhost: bool) -> None:
    assert syntax.is_hostname(name) is public
    assert syntax.is_hostname(name, allow_localhost=True) is localhost


def test_tid_ms_known_answers() -> None:
    assert syntax.tid_ms("2222222222222") == 0
    assert syntax.tid_ms("3jzfcijpj2z2a") == 1688137381887
    assert syntax.tid_ms("222222d7n7i22") == 9620
    assert syntax.tid_ms("jzzzzzzzzzzzz") == (2**64 - 1 >> 10) // 1000, "bit 63 is a number like any other"


@given(st.integers(0, 2**64 - 1))
def test_tid_ms_reads_five_bits_a_character(value: int) -> None:
    alphabet = "234567abcdefghijklmnopqrstuvwxyz"
    tid = "".join(alphabet[value >> shift & 31] for shift in range(60, -1, -5))
    assert syntax.is_tid(tid)
    assert syntax.tid_ms(tid) == (value >> 10) // 1000


@given(st.integers(0, 253402300799999))
def test_datetimes_that_we_write_are_valid(time_ms: int) -> None:
    text = syntax.format_datetime(time_ms)
    assert syntax.is_datetime(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)


def test_format_datetime_known_answers() -> None:
    assert syntax.format_datetime(0) == "1970-01-01T00:00:00.000Z"
    assert syntax.format_datetime(1763801458007) == "2025-11-22T08:50:58.007Z"


_DATETIME_SHAPE = (
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,12})?(Z|[+-][0-2][0-9]:[0-5][0-9])"
)


@given(st.integers(-62135596800000, 253402300799999))
def test_the_time_of_a_datetime_is_the_one_it_was_made_of(time_ms: int) -> None:
    assert syntax.datetime_ms(syntax.format_datetime(time_ms)) == time_ms


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1970-01-01T01:30:00.0019+01:30", 1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00+23:59", -62135596800000 - 86_340_000),
        ("0000-12-31T23:59:59.999Z", -62135596800001),
        ("0000-01-01T00:00:00Z", -62135596800000 - 366 * 86_400_000),
        ("0000-02-29T00:00:00.5-23:59", -62135596800000 - 307 * 86_400_000 + 86_340_500),
        ("9999-12-31T23:59:59.999Z", 253402300799999),
        ("9999-12-31T23:59:59-23:59", 253402300799999),  # the last that can be written again
    ],
)
def test_datetime_ms_known_answers(text: str, time_ms: int) -> None:
    assert syntax.is_datetime(text)
    assert syntax.datetime_ms(text) == time_ms


@given(st.from_regex(_DATETIME_SHAPE, fullmatch=True))
def test_every_valid_datetime_has_a_time(text: str) -> None:
    if syntax.is_datetime(text):
        assert syntax.datetime_ms(text) <= 253402300799999


@pytest.mark.parametrize("check", [*CHECKS.values(), syntax.is_repo_path, syntax.is_supported_did, syntax.is_hostname])
@pytest.mark.parametrize("text", ["a" * 200_000, "a." * 100_000, "a-" * 100_000, "did:web:" + "a." * 100_000, "\0", ""])
def test_long_and_strange_strings_end_soon(check: Callable[[str], bool], text: str) -> None:
    """No pattern runs away: backtracking over inputs of this size would not end within the test's timeout."""
    assert not check(text)
