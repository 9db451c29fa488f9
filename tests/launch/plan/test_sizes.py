"""How many train together: the rule, what trials told, and that a resume decides alike."""

from __future__ import annotations

import pytest

from lora_foundry.launch.plan.sizes import MOST_MEMBERS, MOST_ROWS, Sizes, in_words, key_of
from lora_foundry.wire.events import GainFound
from tests.launch.jobs import job

ONE = job(data__batch_size=1)
EIGHT = [job(seed=n, data__batch_size=1) for n in range(8)]


def told(chosen: int, ratio: float, members: int = 8) -> GainFound:
    seconds = {str(members): 0.1, str(chosen): 0.09}
    return GainFound(members=members, rows=members, chosen=chosen, ratio=ratio, seconds=seconds)


def test_a_rule_holds_until_a_trial_has_told() -> None:
    sizes = Sizes(None, 1.05)
    limit = sizes.most(EIGHT)
    assert (limit.members, limit.rows) == (MOST_MEMBERS, MOST_ROWS)
    assert sizes.trial(EIGHT) == 1.05
    assert sizes.trial(EIGHT[:1]) is None, "there is nothing to try with one member"


@pytest.mark.parametrize(
    ("chosen", "ratio", "most"),
    [(8, 1.1, 8), (8, 1.4, 16), (4, 1.2, 4), (4, 1.4, 4), (1, 1.0, 1)],
    ids=["pays", "pays well, so more is tried", "half", "half, more was tried already", "not at all"],
)
def test_what_a_trial_told_goes(chosen: int, ratio: float, most: int) -> None:
    sizes = Sizes(None, 1.05)
    sizes.learn("pack-0", EIGHT, told(chosen, ratio))
    limit = sizes.most(EIGHT)
    assert (limit.members, limit.rows) == (most, None)
    assert sizes.trial(EIGHT) is None, "it is known"
    assert (sizes.trial([*EIGHT, *EIGHT]) is not None) == (most <= 16), "more than was tried is tried"


def test_other_bases_and_other_rows_a_member_are_other_questions() -> None:
    sizes = Sizes(None, 1.05)
    sizes.learn("pack-0", EIGHT, told(1, 1.0))
    for other in (job(data__batch_size=4), job(data__batch_size=1, data__resolution=128)):
        assert sizes.most([other] * 2).members == MOST_MEMBERS
        assert sizes.trial([other] * 2) is not None
    assert key_of([job(data__batch_size=1, lora__rank=64)]) == key_of([ONE])


def test_a_resumed_sweep_decides_as_the_first_did() -> None:
    first = Sizes(None, 1.05)
    line = first.learn("pack-0", EIGHT, told(4, 1.3))
    again = Sizes(None, 1.05, [line])
    assert again.most(EIGHT) == first.most(EIGHT)
    assert again.trial(EIGHT) is None


def test_what_the_user_said_is_not_tried() -> None:
    sizes = Sizes(3, 1.05)
    assert sizes.trial(EIGHT) is None
    assert sizes.most(EIGHT).members == 3


def test_it_is_said_in_words() -> None:
    assert in_words(told(4, 1.0)) == (
        "8 together are no faster than 4 at a time (100 ms against 90 ms for a step of all): "
        "packing more does not pay here"
    )
    assert "1.40 times as fast" in in_words(told(8, 1.4))
