"""Every YAML under conf/ and sweeps/ composes and parses, and the schema has no field without a default there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from lora_foundry.config import parse
from lora_foundry.config.compose import compose_job
from lora_foundry.config.precision import with_precision
from tests.root import PROJECT_ROOT

CONF, SWEEPS = PROJECT_ROOT / "conf", PROJECT_ROOT / "sweeps" / "sweep"
GROUP_FILES = sorted(path.relative_to(CONF).with_suffix("") for path in CONF.glob("*/*.yaml"))
GROUPS = {
    "model",
    "data",
    "lora",
    "objective",
    "optimizer",
    "scheduler",
    "trainer",
    "memory",
    "validation",
    "sample",
    "export",
    "tracking",
    "experiment",
}
SWEEP_FILES = sorted(SWEEPS.glob("*.yaml"))
GRIDS = [file for file in SWEEP_FILES if "sampler:" not in file.read_text()]  # a search has no list of points
EXPERIMENTS = [file for file in GROUP_FILES if file.parts[0] == "experiment"]
NEEDS = {  # what only the user can say
    "data/folder": ["data.path=./photos"],
    "experiment/sd15_photos": ["data.path=./photos"],
}


def sweep_points(name: str) -> list[list[str]]:
    """The override lists that ``python -m src.train sweep=name`` would train."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[f"sweep={name}"], return_hydra_config=True)
    assert cfg.hydra.mode is not None, "a named sweep needs no -m"
    params: dict[str, Any] = OmegaConf.to_container(cfg.hydra.sweeper.params)  # type: ignore[assignment]
    overrides = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    (batch,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return [list(point) for point in batch]


@pytest.mark.slow
def test_the_primary_config_composes_and_parses() -> None:
    assert compose_job().model.path == "assets/tiny-sd"


@pytest.mark.slow
@pytest.mark.parametrize("file", GROUP_FILES, ids=str)
def test_every_group_file_composes_and_parses(file: Path) -> None:
    group, name = file.parts
    assert group in GROUPS
    compose_job(f"{group}={name}", *NEEDS.get(f"{group}/{name}", []))


def test_every_yaml_below_conf_is_met_by_one_of_these_tests() -> None:
    known = {CONF / "train.yaml", CONF / "hydra/help/foundry.yaml", *(CONF / f"{file}.yaml" for file in GROUP_FILES)}
    assert set(CONF.rglob("*.yaml")) == known
    assert not list(CONF.rglob("*.yml"))


@pytest.mark.slow
@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.stem)
def test_every_point_of_every_named_sweep_parses(file: Path) -> None:
    points = sweep_points(file.stem)
    assert len(points) > 1
    jobs = {compose_job(f"sweep={file.stem}", *point) for point in points}
    assert len(jobs) == len(points), "two points are the same job"


@pytest.mark.parametrize("file", SWEEP_FILES, ids=lambda file: file.stem)
def test_every_named_sweep_says_its_command_its_cost_and_what_to_expect(file: Path) -> None:
    text = file.read_text()
    comment = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert text.startswith("#")
    assert "# @package _global_" in text
    assert f"python -m src.train sweep={file.stem}" in comment


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.name)
def test_every_experiment_says_its_command_its_cost_and_what_to_expect(file: Path) -> None:
    text = (CONF / file).with_suffix(".yaml").read_text()
    assert text.startswith("# @package _global_\n")
    for said in (f"python -m src.train experiment={file.name}", "# Cost: ", "# Expected: "):
        assert said in text


@pytest.mark.slow
def test_what_the_command_line_says_comes_after_an_experiment() -> None:
    job = compose_job("experiment=my_style", "lora.rank=16", "data=emoji-duotone", "data.name=other")
    assert (job.lora.rank, job.lora.alpha, job.data.path) == (16, 8.0, "assets/emoji-duotone/train")
    assert (job.data.name, job.trainer.max_steps, job.scheduler.name) == ("other", 200, "constant")


def test_there_are_named_sweeps_and_a_wrong_name_is_an_error() -> None:
    assert "rank_batch" in {file.stem for file in SWEEP_FILES}
    with pytest.raises(HydraException, match="rank_batc"):
        compose_job("sweep=rank_batc")


@pytest.mark.slow
def test_a_folder_of_ones_own_must_say_where_it_is() -> None:
    with pytest.raises(ValueError, match=r"data\.path: no value; give one with data\.path="):
        compose_job("data=folder")


@pytest.mark.slow
@pytest.mark.parametrize("value", ["lora.rank=4", "lora.alpha=0.5x", "lora.target_modules=[to_q,to_v]", "sample=none"])
def test_values_are_given_on_the_command_line_as_the_readme_shows(value: str) -> None:
    assert compose_job(value) != compose_job("lora.rank=5")


@pytest.mark.slow
def test_composing_twice_gives_equal_jobs_that_differ_where_an_override_differs() -> None:
    assert compose_job("lora.rank=4") == compose_job("lora.rank=4")
    assert compose_job("lora.rank=4").lora.alpha == 4.0


def test_no_yaml_holds_code() -> None:
    for file in [*CONF.rglob("*.yaml"), *SWEEP_FILES]:
        assert "_target_" not in file.read_text(), f"{file}: configs are data"


@pytest.mark.slow
def test_hydras_own_node_is_not_part_of_a_job() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train")
    assert with_precision(parse(cfg), "32-true") == compose_job()
