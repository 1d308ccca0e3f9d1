"""Which mode a host is judged in (design section 4, "Modes per host")."""

import pytest

from relay.verify.modes import LENIENT, RATCHET, STRICT, mode_of, passes_unproven


@pytest.mark.parametrize(
    ("chosen", "configured", "known_at_install", "proven", "mode"),
    [
        ("", RATCHET, True, False, RATCHET),
        ("", RATCHET, True, True, STRICT),
        ("", RATCHET, False, False, STRICT),  # first seen later
        (RATCHET, RATCHET, False, False, RATCHET),  # marked by an operator
        (RATCHET, STRICT, False, False, RATCHET),
        (RATCHET, STRICT, True, True, STRICT),  # for good
        ("", STRICT, True, False, STRICT),
        (STRICT, RATCHET, True, False, STRICT),
        (STRICT, LENIENT, True, False, STRICT),
        (LENIENT, STRICT, False, True, LENIENT),
        ("", LENIENT, False, True, LENIENT),
    ],
)
def test_mode_of_a_host(chosen: str, configured: str, known_at_install: bool, proven: bool, mode: str) -> None:
    """Checklist 214: nothing but an operator's word makes a host lenient."""
    assert mode_of(chosen, configured, known_at_install=known_at_install, proven=proven) == mode


def test_only_two_modes_pass_unproven_commits() -> None:
    """An unknown word is strict."""
    assert [mode for mode in (RATCHET, STRICT, LENIENT, "", "loose") if passes_unproven(mode)] == [RATCHET, LENIENT]
