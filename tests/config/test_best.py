"""One rule for which number is best."""

from __future__ import annotations

import math

from lora_foundry.config.best import best, score

# A sweep over model.prediction_type: the base predicts v, so losses of jobs that train it as epsilon are of another
# quantity. Job 1 has the lowest loss (1.0833), job 4 the lowest over its base's (0.9868).
SUMMARIES = {
    0: {"val_loss": 1.4628, "val_loss_rel": 0.9871},
    1: {"val_loss": 1.0833, "val_loss_rel": 0.9920},
    4: {"val_loss": 1.4630, "val_loss_rel": 0.9868},
}


def test_the_lowest_relative_loss_is_best_whatever_the_loss() -> None:
    assert best({number: told["val_loss_rel"] for number, told in SUMMARIES.items()}) == 4


def test_what_has_no_number_is_not_compared_and_of_equals_the_first_is_best() -> None:
    told = {0: None, 3: math.nan, 4: True, 5: "0.1"}
    assert [score(one) for one in told.values()] == [None] * 4
    assert best(told) is None
    assert best({**told, 7: 0.9, 8: 0.9}) == 7
