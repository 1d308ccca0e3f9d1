"""What lookups tell of the directory as a whole, and of one DID that it fails for."""

from relay.identity.health import (
    OUTCOMES_TELLING,
    REFUSED_DIDS_MAX,
    REFUSED_SECONDS_MAX,
    REFUSED_STEP_SECONDS_MAX,
    DirectoryHealth,
)

ODD, OTHER = "did:plc:odd", "did:plc:other"


def test_a_few_failures_are_no_outage() -> None:
    health = DirectoryHealth()
    seen = []
    for _ in range(OUTCOMES_TELLING):
        seen.append(health.down)
        health.failed(ODD, 0)

    assert seen == [False] * OUTCOMES_TELLING
    assert health.down


def test_a_did_is_refused_when_others_were_found_for_long_enough_meanwhile() -> None:
    health = DirectoryHealth()
    health.failed(ODD, 0)
    for second in range(10, int(REFUSED_SECONDS_MAX) + 1, 10):
        assert not health.refuses(ODD)
        health.found(OTHER, second - 5)
        health.failed(ODD, second)

    assert health.refuses(ODD)
    assert not health.refuses(OTHER)
    health.found(ODD, REFUSED_SECONDS_MAX)
    assert not health.refuses(ODD)


def test_an_outage_refuses_nobody_however_long_it_is() -> None:
    """Nor do answers without a document, which a cache in front of the directory may give."""
    health = DirectoryHealth()
    health.found(OTHER, 0)
    for second in range(1, 100_000, 10):
        health.failed(ODD, second)
        health.answered("did:plc:nobody")

    assert not health.refuses(ODD)


def test_any_answer_for_the_did_ends_what_was_held_against_it() -> None:
    health = DirectoryHealth()
    for second in range(0, int(REFUSED_SECONDS_MAX) + 10, 10):
        health.found(OTHER, second - 5)
        health.failed(ODD, second)
    assert health.refuses(ODD)
    health.answered(ODD)
    health.failed(ODD, REFUSED_SECONDS_MAX + 20)

    assert not health.refuses(ODD)


def test_two_failures_a_day_apart_are_two_failures() -> None:
    """Nothing is known of the time between them."""
    health = DirectoryHealth()
    for day in range(int(REFUSED_SECONDS_MAX / REFUSED_STEP_SECONDS_MAX)):
        health.failed(ODD, day * 86_400)
        health.found(OTHER, day * 86_400 + 1)

    assert not health.refuses(ODD)


def test_what_is_remembered_of_dids_is_bounded() -> None:
    health = DirectoryHealth()
    for number in range(REFUSED_DIDS_MAX + 10):
        health.failed(f"did:plc:{number}", 0)

    assert len(health._refused) == REFUSED_DIDS_MAX
