"""What the files of experiments and of named sweeps say counts as said."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from lora_foundry.launch.points.experiments import said_in_files
from lora_foundry.launch.points.offline import compose_all
from lora_foundry.tracking.parameters import chosen

MINE = """# @package _global_
defaults:
  - override /data: emoji-flat
  - other
  - _self_
lora: {rank: 3, target_modules: [to_q]}
trainer: {max_steps: 7}
hydra: {mode: MULTIRUN}
"""


@pytest.fixture
def composed(tmp_path: Path) -> DictConfig:
    """Of a search path with one's own folder before the project's, and a sweep."""
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    for path, text in (
        (own / "experiment" / "mine.yaml", MINE),
        (shipped / "experiment" / "mine.yaml", "lora: {rank: 9}\n"),
        (shipped / "sweep" / "long.yaml", "trainer: {max_steps: 900}\nhydra: {sweeper: {params: {seed: '1,2'}}}\n"),
        (shipped / "experiment" / "empty.yaml", ""),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sources = [{"path": "hydra.conf", "schema": "pkg"}]
    sources += [{"path": str(path), "schema": "file"} for path in (own, shipped)]
    return OmegaConf.create({"hydra": {"runtime": {"config_sources": sources}}})


def test_a_files_own_keys_and_the_groups_that_it_exchanges_are_told(composed: DictConfig) -> None:
    mine = {"data": "emoji-flat", "lora.rank": "3", "lora.target_modules": "['to_q']", "trainer.max_steps": "7"}
    assert said_in_files(composed, {"experiment": "mine", "lora.rank": "4"}) == mine
    assert said_in_files(composed, {"experiment": "mine", "sweep": "long"}) == {**mine, "trainer.max_steps": "900"}


@pytest.mark.parametrize("overrides", [{}, {"experiment": "null"}, {"experiment": "empty"}, {"lora.rank": "4"}])
def test_without_a_file_nothing_is_told(overrides: dict[str, str], composed: DictConfig) -> None:
    assert said_in_files(composed, overrides) == {}
    assert said_in_files(OmegaConf.create({"hydra": {}}), {"experiment": "mine"}) == {}


def test_what_an_experiment_of_the_project_sets_is_a_parameter_of_its_runs() -> None:
    (point,) = compose_all(["experiment=my_style", "lora.rank=5"])
    assert chosen(point.config, {**point.in_files(), **point.overrides()}) == {
        **{"experiment": "my_style", "data": "emoji-flat", "scheduler": "constant", "data.name": "my-style"},
        **{"lora.rank": "5", "lora.alpha": "2.5", "optimizer.lr": "0.002", "trainer.max_steps": "200"},
    }
