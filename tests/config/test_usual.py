"""Defaults suit the base: each base's file tells what a training on it usually takes, and whoever says more wins."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lora_foundry.config import ConfigError, parse
from lora_foundry.config.compose import compose_job
from lora_foundry.config.digest import config_digest
from lora_foundry.config.usual import NODE, OF_BASES
from lora_foundry.launch.points.offline import compose_all
from tests.root import PROJECT_ROOT

CONF = PROJECT_ROOT / "conf"
MODELS = sorted(file.stem for file in (CONF / "model").glob("*.yaml"))


@dataclass(frozen=True, kw_only=True)
class Practice:
    """What people begin with on a base, from who trains or draws with it."""

    resolution: int
    targets: str
    lr: float
    guidance: float
    ranks: tuple[int, int] = (1, 1024)
    samples: int | None = None


def drawn_with(pipeline: str) -> float:
    """The guidance with which a pipeline of the installed diffusers draws where it is told none; read, not imported."""
    spec = find_spec("diffusers")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "pipelines" / pipeline / f"pipeline_{pipeline}.py").read_text()
    found = re.search(r"guidance_scale: float = ([0-9.]+)", text)
    assert found is not None
    return float(found[1])


PRACTICE = {
    # diffusers, examples/text_to_image/README.md at 0356e18: train_text_to_image_lora.py --resolution=512
    # --learning_rate=1e-04 ("here we use 1e-4 instead of the usual 1e-5"). kohya-ss/sd-scripts at 063ef10,
    # docs/train_network.md: --network_dim=16 --learning_rate=1e-4, "values between 4 and 128 are commonly used"; at
    # 65e6594, docs/train_network_README-en.md: LoRA-LierLa, its usual kind, leaves convolutions of 3x3 alone,
    # --max_train_steps=400 --learning_rate=1e-4; at 29ad3cc, docs/train_README-en.md: resolution = 512, batch_size = 4.
    "sd15": Practice(
        resolution=512,
        targets="attention-mlp",
        lr=1e-4,
        guidance=drawn_with("stable_diffusion"),
        ranks=(4, 128),
        samples=400 * 4,
    ),
    # diffusers, examples/text_to_image/README_sdxl.md at 09f80e1: train_text_to_image_lora_sdxl.py --resolution=1024
    # --learning_rate=1e-04. kohya-ss/sd-scripts at 5725a13, docs/sdxl_train_network.md: --unet_lr=1e-4.
    "sdxl": Practice(
        resolution=1024, targets="attention-mlp", lr=1e-4, guidance=drawn_with("stable_diffusion_xl"), ranks=(4, 128)
    ),
    # docs/decisions.md, 13, 20 and 30: measured on its drawings.
    "tiny-sd": Practice(resolution=64, targets="all-blocks", lr=3e-3, guidance=3.0, samples=400 * 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_what_a_base_is_trained_with_by_default_is_what_people_begin_with(name: str) -> None:
    job, practice = compose_job(f"model={name}", "data=folder", "data.path=photos"), PRACTICE[name]
    assert (job.data.resolution, job.lora.target_modules) == (practice.resolution, practice.targets)
    assert (job.optimizer.name, job.optimizer.lr) == ("adamw", practice.lr)
    assert job.optimizer.weight_decay == 0.01  # as AdamW of torch, kohya's and diffusers' scripts
    assert job.sample.guidance == practice.guidance
    assert practice.ranks[0] <= job.lora.rank <= practice.ranks[1]
    if practice.samples is not None:
        assert job.trainer.max_steps is not None
        assert job.trainer.max_steps * job.data.batch_size == practice.samples


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_resolution_of_a_base_is_the_one_that_it_was_made_for(name: str) -> None:
    model = compose_job(f"model={name}", "data=folder", "data.path=photos").model
    folder = PROJECT_ROOT / (model.config or model.path)
    unet, vae = (json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae"))
    cell = 2 ** (len(vae["block_out_channels"]) - 1)
    assert unet["sample_size"] * cell == PRACTICE[name].resolution


_README = (PROJECT_ROOT / "README.md").read_text().replace("\\\n    ", "")
README_COMMANDS = re.findall(r"^python -m src.train (.*?)(?: +#.*)?$", _README, re.M)


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for line in README_COMMANDS if "model=" in line])
def test_the_readmes_commands_for_a_base_train_as_people_begin(command: str) -> None:
    """A single file has no defaults of its own: they are those of the base that it was made from."""
    words = shlex.split(command)
    (point,) = compose_all(words)
    job, practice = point.config, PRACTICE[next(word for word in words if word.startswith("model="))[6:]]
    assert (job.data.resolution, job.lora.target_modules) == (practice.resolution, practice.targets)
    assert (job.optimizer.lr, job.sample.guidance, job.trainer.precision) == (practice.lr, practice.guidance, "auto")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [line for line in README_COMMANDS if not re.search("experiment=|-sc|hydra/sweeper", line)]
)
def test_the_readmes_other_commands_compose(command: str) -> None:
    words = [word for word in shlex.split(command) if word != "-m" and not word.startswith(("hydra.", "sweep="))]
    assert compose_all(words)


def test_there_are_such_commands() -> None:
    assert sum("model=sd15 model.path=./models/" in line for line in README_COMMANDS) == 1
    assert len(README_COMMANDS) > 10


@pytest.mark.slow
def test_drawings_are_made_larger_for_a_larger_base() -> None:
    assert [compose_job(f"data=emoji-{style}").data.resolution for style in ("flat", "duotone")] == [64, 64]
    assert compose_job("model=sd15").data.resolution == 512


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "rate"), [("prodigy", 1.0), ("adafactor", 1e-2), ("adamw", 1e-4)])
def test_the_rate_of_a_base_is_for_optimizers_that_have_none_of_their_own(optimizer: str, rate: float) -> None:
    assert compose_job("model=sd15", f"optimizer={optimizer}").optimizer.lr == rate


SAID = {"data.resolution": 128, "lora.target_modules": "attention", "optimizer.lr": 0.5, "sample.guidance": 2.0}
"""A value of one's own for each key that bases have a value for."""


def told(job: Any) -> dict[str, Any]:
    return {key: getattr(getattr(job, key.split(".")[0]), key.split(".")[1]) for key in SAID}


def own(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def composed(folder: Path, *words: str) -> Any:
    """A job whose configs are also looked for in ``folder``."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return parse(compose("train", overrides=[*words, f"hydra.searchpath=[file://{folder}]"]))


def test_every_key_that_bases_decide_is_looked_at_here() -> None:
    assert SAID.keys() == OF_BASES.keys()
    assert PRACTICE.keys() == set(MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["said", "base"])
def test_the_command_line_wins(first: str) -> None:
    said = [f"{key}={value}" for key, value in SAID.items()]
    words = [*said, "model=sd15"] if first == "said" else ["model=sd15", *said]
    assert told(compose_job(*words)) == SAID


@pytest.mark.slow
def test_an_experiment_wins(tmp_path: Path) -> None:
    groups = "".join(f"{key.split('.')[0]}:\n  {key.split('.')[1]}: {value}\n" for key, value in SAID.items())
    own(tmp_path, "experiment/mine.yaml", f"# @package _global_\ndefaults:\n  - override /model: sd15\n{groups}")
    assert told(composed(tmp_path, "experiment=mine")) == SAID


def own_groups(folder: Path) -> list[str]:
    """A file of one's own in each group; the words that choose them."""
    parents = {"data": "emoji-flat", "lora": "default", "optimizer": "adamw", "sample": "default"}
    for key, value in SAID.items():
        group, _, leaf = key.partition(".")
        own(folder, f"{group}/mine.yaml", f"defaults: [{parents[group]}, _self_]\n{leaf}: {value}\n")
    return [f"{group}=mine" for group in parents]


@pytest.mark.slow
def test_a_file_of_ones_own_in_a_group_wins(tmp_path: Path) -> None:
    assert told(composed(tmp_path, *own_groups(tmp_path), "model=sd15")) == SAID


@pytest.mark.slow
def test_it_wins_where_the_base_comes_last(tmp_path: Path) -> None:
    """A primary config of one's own may list the groups in any order."""
    chosen = [word.replace("=", ": ") for word in own_groups(tmp_path)]
    chosen += ["objective: default", "scheduler: cosine", "trainer: default", "memory: exact", "validation: default"]
    chosen += ["export: default", "tracking: none", "model: sd15"]
    text = "".join(f"  - {one}\n" for one in chosen)
    also = f"hydra:\n  searchpath: ['file://{CONF}']\n"
    own(tmp_path, "other.yaml", f"defaults:\n{text}  - _self_\nname: null\nseed: 0\nresume: null\n{also}")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        job = parse(compose("other"))
    assert (told(job), job.model.name) == (SAID, "sd15")


@pytest.mark.slow
def test_a_sweep_over_bases_has_each_ones_own_and_what_was_said_for_all() -> None:
    points = compose_all(["model=tiny-sd,sd15", "optimizer.lr=1e-3,1e-4", "data.resolution=64"])
    rows = [(p.config.model.name, p.config.optimizer.lr, p.config.lora.target_modules) for p in points]
    assert rows == [
        *(("tiny-sd", rate, "all-blocks") for rate in (1e-3, 1e-4)),
        *(("sd15", rate, "attention-mlp") for rate in (1e-3, 1e-4)),
    ]
    assert {p.config.data.resolution for p in points} == {64}
    assert {p.config.sample.guidance for p in compose_all(["model=tiny-sd,sd15"])} == {3.0, 7.5}


@pytest.mark.slow
def test_a_base_of_ones_own_begins_with_another_ones_file(tmp_path: Path) -> None:
    text = "defaults: [sd15, _self_]\nname: mine\npath: ./mine.safetensors\nusual:\n  lr: 5.0e-5\n"
    own(tmp_path, "model/mine.yaml", text)
    job = composed(tmp_path, "model=mine")
    assert (job.model.name, job.data.resolution, job.lora.target_modules) == ("mine", 512, "attention-mlp")
    assert job.optimizer.lr == 5e-5


LONELY = "name: mine\nfamily: sd\npath: ./mine\nconfig: null\nrevision: null\nversion: sd_v1\nstride: 64\n"


@pytest.mark.slow
def test_what_a_base_does_not_tell_has_to_be_said(tmp_path: Path) -> None:
    own(tmp_path, "model/mine.yaml", f"{LONELY}prediction_type: auto\n")
    with pytest.raises(ConfigError) as error:
        composed(tmp_path, "model=mine", "optimizer.lr=1e-4", "data.resolution=512")
    missing = {problem.partition(":")[0]: problem for problem in error.value.problems}
    assert missing.keys() == {"lora.target_modules", "sample.guidance"}
    for key, problem in missing.items():
        assert f"{key}=..., or for all trainings on this base with usual.{OF_BASES[key]} in the model's file" in problem
    said = [f"{key}={value}" for key, value in SAID.items()]
    assert told(composed(tmp_path, "model=mine", *said, "data.resolution=128")) == SAID


@pytest.mark.slow
def test_a_key_that_no_base_is_asked_for_is_refused(tmp_path: Path) -> None:
    own(tmp_path, "model/mine.yaml", "defaults: [sd15, _self_]\nusual:\n  learning_rate: 1.0\n")
    with pytest.raises(
        ConfigError, match=r"model\.usual\.learning_rate: no such key; allowed here: guidance, lr, reso"
    ):
        composed(tmp_path, "model=mine")
    own(tmp_path, "model/mine.yaml", "defaults: [sd15, _self_]\nusual: 3\n")
    with pytest.raises(ConfigError, match=r"model\.usual: got 3, allowed is a group of guidance, lr, resolution"):
        composed(tmp_path, "model=mine")


@pytest.mark.slow
def test_a_job_is_stored_with_the_values_and_without_where_they_came_from() -> None:
    (point,) = compose_all(["model=sd15"])
    assert NODE not in point.values["model"]
    assert (point.values["optimizer"]["lr"], point.values["data"]["resolution"]) == (1e-4, 512)
    assert parse(point.values) == point.config
    assert "usual" not in OmegaConf.to_yaml(point.cfg)


@pytest.mark.slow
def test_the_digest_of_a_job_is_of_its_values_alone() -> None:
    said = ["optimizer.lr=1e-4", "data.resolution=512", "lora.target_modules=attention-mlp", "sample.guidance=7.5"]
    assert config_digest(compose_job("model=sd15")) == config_digest(compose_job("model=sd15", *said))
