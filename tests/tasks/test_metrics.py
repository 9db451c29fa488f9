"""Metrics: a number a member beside its loss, from the forwards that the loss needs anyway."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_foundry.config.choices import METRICS
from lora_foundry.data.cache import TensorCache
from lora_foundry.tasks import Judged
from lora_foundry.tasks.metrics import metric_choice
from lora_foundry.training.pack import Pack
from lora_foundry.training.validation import Score, Validator
from tests.added import Added
from tests.training.world import Spec, make_member, make_task

OPTIONS = ("validation.timesteps=4", "validation.max_images=2")
WORST = """
from lora_foundry.tasks.metrics import MetricChoice

class _Worst(MetricChoice):
    def of_rows(self, judged):
        return (judged.prediction - judged.target).abs().flatten(1).amax(1)

    def over(self, values):
        return values.max()

CHOICE = _Worst()
"""


def _judged(rows: int = 5) -> Judged:
    draw = torch.Generator().manual_seed(1)
    prediction, target = (torch.randn(rows, 4, 3, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    return Judged(losses=(prediction - target).square().flatten(1).mean(1), prediction=prediction, target=target)


@pytest.mark.parametrize("name", METRICS.names())
def test_each_metric_is_a_rows_own_lower_where_it_is_nearer_and_changes_nothing(name: str) -> None:
    judged, metric = _judged(), metric_choice(name)
    before = [values.clone() for values in (judged.losses, judged.prediction, judged.target)]
    values = metric.of_rows(judged)
    assert values.shape == (5,)
    one = Judged(losses=judged.losses[2:3], prediction=judged.prediction[2:3], target=judged.target[2:3])
    assert metric.of_rows(one) == pytest.approx(values[2:3])
    near = judged.target + 0.1 * (judged.prediction - judged.target)
    nearer = replace(judged, prediction=near, losses=0.01 * judged.losses)
    assert bool((metric.of_rows(nearer) < values).all())
    assert all(map(torch.equal, before, (judged.losses, judged.prediction, judged.target)))


def test_the_cosine_is_that_of_the_whole_row_and_blind_to_lengths() -> None:
    judged = _judged()
    pairs = zip(judged.prediction.flatten(1), judged.target.flatten(1), strict=True)
    expected = [1 - float(a @ b / (a.norm() * b.norm())) for a, b in pairs]
    assert metric_choice("cosine").of_rows(judged).tolist() == pytest.approx(expected)
    longer = replace(judged, prediction=judged.prediction * 3)
    assert metric_choice("cosine").of_rows(longer).tolist() == pytest.approx(expected)


def _scored(tmp_path: Path, *options: str, cache: TensorCache | None = None) -> tuple[Score, list[int]]:
    """The score of a member that has learned something, and the rows of each forward."""
    member = make_member(Spec("a", (*OPTIONS, *options)), tmp_path)
    member.cache = cache
    pack = Pack(make_task(), [member])
    draw = torch.Generator().manual_seed(0)
    for value in pack.bank.unpack(pack.bank.weights[0], "a").values():
        value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64) * 0.1)
    forwards: list[int] = []
    pack.task.denoiser.module.register_forward_pre_hook(lambda _, args: forwards.append(len(args[0])))
    return Validator(pack).score([member])["a"], forwards


@pytest.mark.slow
def test_another_metric_costs_no_forward_and_changes_no_loss(tmp_path: Path) -> None:
    alone, forwards = _scored(tmp_path)
    both, same = _scored(tmp_path, "validation.metrics=[loss,cosine]")
    assert forwards == same
    assert both.measures["loss"] == alone.measures["loss"]
    assert both.metrics() == alone.metrics() | {
        key: value for key, value in both.metrics().items() if key.startswith("val/cosine")
    }
    assert set(both.metrics()) - set(alone.metrics()) == {key.replace("loss", "cosine") for key in alone.metrics()}
    cosine = both.measures["cosine"]
    assert both.others() == {"val_cosine": cosine.value, "val_cosine_rel": cosine.relative}
    assert alone.others() == {}


@pytest.mark.slow
def test_one_more_metric_is_one_more_file_and_may_be_more_than_a_mean(tmp_path: Path, added: Added) -> None:
    added(METRICS, "worst", WORST)
    score, _ = _scored(tmp_path, "validation.metrics=[loss,worst]")
    worst = score.measures["worst"]
    assert worst.value == max(worst.by_group.values()) > 0
    assert worst.relative != score.relative


@pytest.mark.slow
def test_what_no_key_describes_is_not_kept(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path / "cache")
    kept = _scored(tmp_path, cache=cache)[0]
    assert len([*cache.root.rglob("*.safetensors")]) == 1
    for _ in range(2):
        score, forwards = _scored(tmp_path, "validation.metrics=[loss,cosine]", cache=cache)
        assert len(forwards) == 2
        assert score.measures["loss"] == kept.measures["loss"]
    assert len([*cache.root.rglob("*.safetensors")]) == 1


@pytest.mark.slow
def test_members_with_other_metrics_are_scored_apart(tmp_path: Path) -> None:
    members: list[Any] = [
        make_member(Spec(name, (*OPTIONS, *words)), tmp_path)
        for name, words in (("a", ()), ("b", ("validation.metrics=[cosine,loss]",)))
    ]
    pack = Pack(make_task(), members)
    scores = Validator(pack).score(members)
    assert [*scores["a"].measures] == ["loss"]
    assert [*scores["b"].measures] == ["cosine", "loss"]
    assert scores["a"].loss == pytest.approx(scores["b"].loss, rel=1e-12)
