"""Composing a sweep's points quickly gives what Hydra's own loader gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lora_foundry.launch.points.composing import Composer
from tests.root import PROJECT_ROOT

Sweep = tuple[ConfigLoader, DictConfig]


@pytest.fixture(scope="module")
def hydra() -> Iterator[Sweep]:
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config(
            config_name="train",
            overrides=["hydra.sweep.dir=here", "hydra.launcher.pack_size=3"],
            run_mode=RunMode.MULTIRUN,
            with_log_configuration=False,
        )
        yield hydra.config_loader, master


class Counting:
    """A loader that counts how often a whole configuration is composed."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader, self.count = loader, 0

    def load_sweep_config(self, master: DictConfig, words: list[str]) -> DictConfig:
        self.count += 1
        return self.loader.load_sweep_config(master, words)

    def get_group_options(self, name: str) -> list[str]:
        return self.loader.get_group_options(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["seed=3", "lora.rank=4"],
        ["lora.rank=4", "seed=3", "lora.alpha=null"],
        ["model=sd15", "data.batch_size=2", "lora.target_modules=[a,b]"],
        ["data.batch_size=2", "sample=none", "model=sd15", "sample.every=2"],
        ["lora.alpha=null", "+lora.foo=1"],
        ["~sample.every", "seed=2"],
        ["lora.rank=4", "lora.rank=8"],
        ['data.caption_prefix="a,b=c"', "hydra.sweep.subdir=${hydra.job.override_dirname}", "lora.rank=8"],
        ["data.caption_prefix=''", "tracking.experiment=${model.name}"],
        ["seed=${lora.rank}", "hydra.job.config.override_dirname.exclude_keys=[seed]", "lora.rank=2"],
        [],
    ],
    ids=" ".join,
)
def test_equals_hydra(hydra: Sweep, words: list[str]) -> None:
    loader, master = hydra
    composer = Composer(loader, master)
    composer.compose(["seed=7", "lora.rank=9"])  # what is shared must not keep what a point set
    made, expected = composer.compose(words), loader.load_sweep_config(master, words)

    assert OmegaConf.to_yaml(made) == OmegaConf.to_yaml(expected)
    assert made == expected
    assert OmegaConf.is_struct(made)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["lora.bad=3"], ["modle=sd15"], ["model=none_such"], ["lora.rank.x=3"], ["lora.rank=[1"]]
)
def test_wrong_words_are_told_as_hydra_tells_them(hydra: Sweep, words: list[str]) -> None:
    loader, master = hydra
    with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever Hydra raises
        loader.load_sweep_config(master, words)
    with pytest.raises(type(expected.value)) as raised:
        Composer(loader, master).compose(words)

    assert str(raised.value) == str(expected.value)


@pytest.mark.slow
def test_composes_once_for_points_that_differ_in_values_alone(hydra: Sweep) -> None:
    loader, master = hydra
    counting = Counting(loader)
    loader_like: Any = counting
    composer = Composer(loader_like, master)
    for seed in range(5):
        composer.compose([f"seed={seed}", "sample=none"])
    assert counting.count == 1

    composer.compose(["seed=1"])
    assert counting.count == 2


@pytest.mark.slow
def test_points_are_their_own(hydra: Sweep) -> None:
    loader, master = hydra
    composer = Composer(loader, master)
    first = composer.compose(["seed=1"])
    first.lora.rank = 99
    assert composer.compose(["seed=1"]).lora.rank != 99


def test_shares_the_cached_values_of_the_sweep(hydra: Sweep) -> None:
    """``${now:}`` and ``${sweep_id:}`` give one answer for all points."""
    loader, master = hydra
    OmegaConf.copy_cache(from_config=master, to_config=master)
    holder = OmegaConf.create({"id": "${sweep_id:}"})
    OmegaConf.copy_cache(from_config=master, to_config=holder)
    _ = holder.id
    OmegaConf.copy_cache(from_config=holder, to_config=master)
    made = Composer(loader, master).compose(["seed=1", "tracking.experiment=${sweep_id:}"])

    assert made.tracking.experiment == holder.id
