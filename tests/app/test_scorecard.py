"""The judge of a demonstration, against what a relay might do wrong."""

from collections.abc import Sequence

import pytest

from relay.app.demo import wrongs
from relay.app.scorecard import Scorecard
from relay.world.network import Emission, Network, Shape

NOW_MS = 1_700_000_000_000


def played(sent: Sequence[Emission], received: Sequence[Emission]) -> Scorecard:
    """After `sent` left the hosts and `received` came out of the relay."""
    scorecard = Scorecard()
    for emission in sent:
        scorecard.sent(emission)
    for seq, emission in enumerate(received, 1):
        scorecard.received(emission.message.frame(seq, NOW_MS))
    return scorecard


@pytest.fixture
def emissions() -> list[Emission]:
    """A forgery, the true commit, and that once more."""
    network = Network(1, ["a.example"], 2, NOW_MS, Shape(records=20, layer_min=0))
    return wrongs(network.write(network.writers[0], NOW_MS))


def test_of_what_a_demo_does_wrong_only_the_true_commit_may_pass(emissions: list[Emission]) -> None:
    _, true, _ = emissions

    scorecard = played(emissions, [true])

    assert scorecard.is_complete
    assert (scorecard.events_sent, scorecard.events_to_pass, scorecard.events_received) == (3, 1, 1)


@pytest.mark.parametrize("passed", [[0], [0, 1], [1, 2], [1, 0], []])
def test_anything_else_is_a_fault(emissions: list[Emission], passed: list[int]) -> None:
    """Also a forgery in the place of the true commit, under the same rev."""
    assert not played(emissions, [emissions[index] for index in passed]).is_complete
