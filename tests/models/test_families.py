"""Families: folders with the same files, found by their names, and what configurations know of them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lora_foundry.config import ConfigError
from lora_foundry.config.choices import FAMILIES, SAMPLERS
from lora_foundry.config.compose import compose_job
from lora_foundry.config.families import family_choice, trained_families
from lora_foundry.models import BaseError, families, open_base
from lora_foundry.models.opening import file_problems, layers_of
from tests.added import Added
from tests.root import PROJECT_ROOT
from tests.training.world import make_denoiser

SRC = PROJECT_ROOT / "src/lora_foundry"
OFFERS = {"base.py": ("open_files", "file_problems", "layers_of"), "sizes.py": ("open_sizes",)}
FLOW = """
from lora_foundry.config.families import FamilyChoice
from lora_foundry.config.schema_denoising import DENOISING

class _Flow(FamilyChoice):
    task = "denoising"
    noise = "flow"
    groups = DENOISING

CHOICE = _Flow()
"""
STRAIGHT = """
from lora_foundry.models.samplers import SamplerChoice

class _Straight(SamplerChoice):
    undoes = ("flow",)

    def walk(self, predict, latents, scheduler, steps):
        return latents

CHOICE = _Straight()
"""


@pytest.mark.parametrize("name", FAMILIES.names())
def test_each_family_has_the_files_that_all_have(name: str) -> None:
    there = {path.name for path in (SRC / "models/families" / name).glob("*.py")}
    wanted = set(families.FILES) if name in trained_families() else set(families.FILES) - {"base.py"}
    assert wanted <= there
    assert ("base.py" in there) == (name in trained_families())
    for file in wanted & OFFERS.keys():
        module = import_module(f"{FAMILIES.package}.{name}.{Path(file).stem}")
        assert all(callable(getattr(module, function)) for function in OFFERS[file])


@pytest.mark.parametrize("name", trained_families())
def test_what_is_learned_on_a_family_is_a_folder_of_tasks(name: str) -> None:
    task = family_choice(name).task
    assert callable(import_module(f"lora_foundry.tasks.{task}.task").open_task)


def test_a_family_says_of_its_noise_what_its_bases_say() -> None:
    assert make_denoiser().process.kind == family_choice("sd").noise


@pytest.mark.slow
def test_a_family_without_a_task_is_refused_where_it_would_be_trained() -> None:
    model = compose_job("model=sdxl", "data.resolution=1024").model
    with pytest.raises(BaseError, match=r"model\.family: got sdxl, allowed is one of sd"):
        open_base(model)
    assert file_problems(model) == []
    assert layers_of(model) is None


def _problems(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose_job(*words)
    return caught.value.problems


@pytest.mark.slow
def test_a_sampler_that_does_not_undo_the_bases_noise_is_refused_before_anything_starts(added: Added) -> None:
    assert _problems("model.family=flow") == ["model.family: got 'flow' (str), allowed is one of sd, sdxl"]
    added(FAMILIES, "flow", FLOW)
    added(SAMPLERS, "straight", STRAIGHT)
    assert _problems("model.family=flow", "sample.sampler=ddim") == [
        "sample.sampler: got ddim, which does not undo the noise of model.family=flow; allowed is one of straight, or "
        "null for the base's own"
    ]
    assert _problems("sample.sampler=straight")[0].startswith("sample.sampler: got straight, which does not undo")
    jobs: list[Any] = [
        compose_job("model.family=flow", "sample.sampler=straight"),
        compose_job("model.family=flow", "sample=none", "sample.sampler=ddim"),
        compose_job("model.family=flow"),
    ]
    assert [job.sample.sampler for job in jobs] == ["straight", "ddim", None]
