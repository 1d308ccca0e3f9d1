"""What hosts announced a moment ago."""

from relay.identity.announcements import ANNOUNCEMENTS_MAX, LAG_SECONDS_MAX, Announcements

DID, HOST = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "pds.example.com"


def test_the_directory_may_lag_for_a_while_or_until_it_shows_the_change() -> None:
    announcements = Announcements()
    announcements.add(DID, HOST, 0)
    found = [announcements.may_lag(DID, HOST, now) for now in (0, LAG_SECONDS_MAX - 0.1, LAG_SECONDS_MAX)]
    assert found == [True, True, False]
    assert not announcements.may_lag(DID, "other.example.com", 0)

    announcements.seen(DID, HOST)
    assert not announcements.may_lag(DID, HOST, 0)


def test_announcements_are_bounded() -> None:
    """Invariant 8: the oldest goes first, and one that is repeated is new."""
    announcements = Announcements()
    for number in range(ANNOUNCEMENTS_MAX):
        announcements.add(f"did:plc:{number}", HOST, 0)
    announcements.add("did:plc:0", HOST, 0)
    announcements.add(DID, HOST, 0)

    assert [announcements.may_lag(f"did:plc:{number}", HOST, 0) for number in (0, 1, 2)] == [True, False, True]
