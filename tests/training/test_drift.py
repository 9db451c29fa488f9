"""``val/drift``: how far an adapter moves what the base predicts for captions that nobody trains."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_foundry.config import ConfigError
from lora_foundry.config.besides import rows_scored
from lora_foundry.config.compose import compose_job
from lora_foundry.config.digest import config_digest
from lora_foundry.config.logged import of_validation, unknown
from lora_foundry.data.cache import TensorCache
from lora_foundry.lora.rows import RowPlan
from lora_foundry.tasks.denoising.material import Prompts
from lora_foundry.training.keeping import keep
from lora_foundry.training.member import Member
from lora_foundry.training.pack import Pack
from lora_foundry.training.validation import Validator
from tests.training.world import WIDTH, Spec, make_member, make_task

TEXTS = ("a ship", "a tree")
OPTIONS = ("validation.timesteps=2", "validation.max_images=1", f"validation.drift_prompts=[{','.join(TEXTS)}]")


def _member(tmp_path: Path, name: str = "a", *words: str) -> Member:
    member = make_member(Spec(name, (*OPTIONS, *words)), tmp_path)
    told = torch.randn(len(TEXTS) + 1, 5, WIDTH, generator=torch.Generator().manual_seed(3))
    unrelated = Prompts(
        texts=TEXTS, conditioning={"encoder_hidden_states": told[:-1]}, empty={"encoder_hidden_states": told[-1:]}
    )
    member.material = replace(member.material, unrelated=unrelated)
    return member


def _learned(pack: Pack, name: str, size: float = 0.1) -> None:
    draw = torch.Generator().manual_seed(len(name))
    place = pack.bank.place(name)
    for value in pack.bank.unpack(pack.bank.weights[place], name).values():
        value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64) * size)


def _drift(pack: Pack, name: str = "a") -> float:
    found = Validator(pack).score(pack.members)[name].drift
    assert found is not None
    return found


@pytest.mark.slow
def test_drift_is_the_squared_distance_from_the_base_over_the_bases_own_size(tmp_path: Path) -> None:
    pack = Pack(make_task(), [_member(tmp_path)])
    assert _drift(pack) == 0.0, "nothing was learned"
    _learned(pack, "a")
    rows = pack.task.drift_rows(pack.members[0], pack, torch.float64)
    assert rows is not None
    assert len(rows) == 2 * len(TEXTS)
    assert rows.inputs["timesteps"].tolist() == [250, 750] * 2
    with torch.no_grad():
        base = pack.task.judged(rows.inputs).prediction
        with pack.bank.rows(RowPlan(places=(0,), counts=(len(rows),))):
            own = pack.task.judged(rows.inputs).prediction
    expected = float((own - base).square().sum() / base.square().sum())
    assert expected > 1e-4
    assert _drift(pack) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_company_and_rows_per_forward_change_no_drift(tmp_path: Path) -> None:
    def drift(*others: str, rows: int = 64) -> float:
        pack = Pack(make_task(), [_member(tmp_path, name, f"validation.batch_rows={rows}") for name in ("a", *others)])
        for name in ("a", *others):
            _learned(pack, name)
        return _drift(pack)

    alone = drift()
    assert drift("bb") == pytest.approx(alone, rel=1e-9)
    assert drift("bb", rows=3) == pytest.approx(alone, rel=1e-9)


@pytest.mark.slow
def test_it_is_told_with_a_validation_and_kept_of_the_best(tmp_path: Path) -> None:
    pack = Pack(make_task(), [_member(tmp_path)])
    _learned(pack, "a")
    score = Validator(pack).score(pack.members)["a"]
    assert score.metrics()["val/drift"] == score.drift
    member = pack.members[0]
    member.count.step = 4
    keep(member, score, (member.folder / "adapter/a.safetensors", member.folder / "adapter/a.json"))
    assert member.count.kept[0].drift == score.drift


@pytest.mark.slow
def test_who_asks_for_none_pays_for_none(tmp_path: Path) -> None:
    member = make_member(Spec("a", ("validation.timesteps=2", "validation.max_images=1")), tmp_path)
    pack = Pack(make_task(), [member])
    _learned(pack, "a")
    forwards: list[int] = []
    pack.task.denoiser.module.register_forward_pre_hook(lambda _, args: forwards.append(len(args[0])))
    score = Validator(pack).score([member])["a"]
    assert score.drift is None
    assert "val/drift" not in score.metrics()
    assert forwards == [2, 2], "the base's rows, and its own"


@pytest.mark.slow
def test_the_base_draws_its_pictures_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def forwards(cache: Any, base_hash: str = "b" * 64) -> int:
        member = _member(tmp_path)
        member.cache = cache
        member.provenance = replace(member.provenance, base_hash=base_hash)
        pack, seen = Pack(make_task(), [member]), []
        pack.task.denoiser.module.register_forward_pre_hook(lambda *_: seen.append(1))
        Validator(pack).score([member])
        return len(seen)

    cache = TensorCache(tmp_path / "cache")
    drawn = forwards(cache)
    assert drawn - forwards(cache) == 20 + 1, "its steps, and the base's own losses"
    assert forwards(cache, "c" * 64) == drawn

    class Full(TensorCache):
        def put(self, *_: Any) -> None:
            raise OSError("the disk is full")

    with caplog.at_level(logging.WARNING):
        assert forwards(Full(tmp_path / "full")) == drawn
    assert "what the base makes of validation.drift_prompts was not kept: the disk is full" in caplog.text


@pytest.mark.slow
def test_a_validation_with_drift_has_more_rows_and_is_another_job() -> None:
    plain, asked = compose_job(), compose_job("validation=drift")
    assert len(asked.validation.drift_prompts) == plain.validation.max_images
    assert rows_scored(asked) == 2 * rows_scored(plain)
    assert config_digest(asked) != config_digest(plain)
    assert "val/drift" in of_validation(asked.validation)
    assert "val/drift" not in of_validation(plain.validation)


def test_an_objective_that_is_not_measured_says_how_it_is() -> None:
    (line,) = unknown("hydra.sweeper.objective", "val/drift", ["val/loss"])
    assert line.endswith("add validation=drift")


@pytest.mark.slow
@pytest.mark.parametrize("prompts", ["[a,a]", "[a,' ']"])
def test_prompts_that_say_nothing_are_refused(prompts: str) -> None:
    with pytest.raises(ConfigError, match=r"validation\.drift_prompts: got .*, allowed are different texts"):
        compose_job(f"validation.drift_prompts={prompts}")
