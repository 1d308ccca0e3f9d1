"""`relay.verify.facts`: whose event it is, and what it moves."""

from relay.verify.facts import NO_ACCOUNT
from tests.support.scene import ELSEWHERE, HOME, Scene


def test_the_own_host_is_the_one_that_a_stored_row_names() -> None:
    """Without a row there is none, whatever the number of the host."""
    facts = Scene().facts(Scene().known())
    assert facts.is_own_host
    assert not facts._replace(host=ELSEWHERE).is_own_host
    assert not facts._replace(account=NO_ACCOUNT, host=HOME._replace(host_id=NO_ACCOUNT.host_id)).is_own_host


def test_an_event_moves_the_place_in_its_host_s_stream_and_nothing_else() -> None:
    facts = Scene().facts(Scene().known(rev="3jzfcijpj2z2a", upstream_seq=5), host=ELSEWHERE._replace(epoch=3))
    assert facts.advanced(9) == facts.account._replace(host_id=ELSEWHERE.host_id, epoch=3, upstream_seq=9)
