"""Rules that hold between fields."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from lora_foundry.config import data_rules
from lora_foundry.config.besides import samples_between
from lora_foundry.config.choices import CHOICES, Choice, Choices
from lora_foundry.config.length import known_steps, too_long_a_warmup
from lora_foundry.config.schema import (
    PRESETS,
    DataConfig,
    JobConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    SampleConfig,
    TrainerConfig,
)
from lora_foundry.config.schema_results import LOSS, ValidationConfig
from lora_foundry.config.warned import Warned

_BETAS = 2
_MOST_SCALE = 10.0


def broken_rules(groups: Mapping[str, Any]) -> list[str]:
    """One line for each broken rule; empty when all hold.

    Args:
        groups: The sound groups by name. A rule about a group that is missing here is passed over, since
            that group's own errors are reported already.
    """
    problems: list[str] = []
    for needed, rule in _RULES:
        if all(name in groups for name in needed):
            problems.extend(rule(*(groups[name] for name in needed)))
    return problems + [line for choices in CHOICES for line in _chosen(choices, groups)]


def _chosen(choices: Choices, groups: Mapping[str, Any]) -> list[str]:
    """What does not suit the choice that was made."""
    if choices.group not in groups:
        return []
    group, problems = groups[choices.group], []
    for name in choices.chosen(group):
        choice = choices.load(name, Choice)
        problems += [*choice.problems(group), *choice.misfits(groups)]
    return problems


def warnings_about(job: JobConfig) -> list[Warned]:
    """What a sound job is warned of before it trains, as far as its configuration tells."""
    return [one for rule in _WARNINGS for one in rule(job)]


def _length(trainer: TrainerConfig) -> list[str]:
    if known_steps(trainer) is None and trainer.epochs is None:
        return ["trainer.max_steps=null and trainer.epochs=null: one of them must be a number"]
    return []


def _patience(trainer: TrainerConfig, validation: ValidationConfig, data: DataConfig) -> list[str]:
    patience, between = trainer.patience, samples_between(validation, trainer, data)
    if patience is None or (between is not None and patience >= between):
        return []
    if between is None:
        return [
            f"trainer.patience={patience} with validation.every=null: nothing is scored on the way, so nobody would "
            "notice; give validation.every, or trainer.patience=null"
        ]
    batch = data.batch_size * trainer.accumulate
    return [
        f"trainer.patience: got {patience} samples, allowed is at least {between}, from one validation to the next "
        f"({between // batch} steps of {batch}); or score more often (validation.every)"
    ]


def _average(trainer: TrainerConfig) -> list[str]:
    average, every, steps = trainer.average, trainer.save_every, known_steps(trainer)
    if average is None:
        return []
    if every is None:
        return [
            f"trainer.average={average} with trainer.save_every=null: exported adapters are averaged; give save_every"
        ]
    if steps is not None and (average - 1) * every >= steps:
        most = (steps - 1) // every + 1
        return [
            f"trainer.average: got {average}, allowed is at most {most} with trainer.save_every={every} and {steps} "
            "steps in all, the last adapter among them"
        ]
    return []


def _warmup(job: JobConfig) -> list[Warned]:
    """Of a constant rate alone: with the others it is refused, and with epochs the worker counts the steps first."""
    steps = known_steps(job.trainer)
    text = None if steps is None else too_long_a_warmup(job, steps)
    return [] if text is None else [Warned(topic="warmup", text=text)]


def _resolution(model: ModelConfig, data: DataConfig) -> list[str]:
    stride, got = model.stride, data.resolution
    if got % stride == 0:
        return []
    low = got // stride * stride
    near = f"{low} or {low + stride}" if low else str(stride)
    return [
        f"data.resolution: got {got}, allowed is a multiple of {stride} (model.stride of {model.name}); nearest: {near}"
    ]


def _single_file(model: ModelConfig) -> list[str]:
    if model.path.endswith(".safetensors") and model.config is None:
        return [
            f"model.config=null with model.path={model.path}: a single file brings no configs and no tokenizer; "
            "name a folder with them (model=sd15 has one)"
        ]
    return []


def _targets(lora: LoraConfig) -> list[str]:
    target = lora.target_modules
    if isinstance(target, str) and target not in PRESETS:
        near = difflib.get_close_matches(target, PRESETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return [
            f"lora.target_modules: got {target!r}, allowed is one of {', '.join(PRESETS)}, "
            f"or a list of module-name endings such as [to_q,to_v]{hint}"
        ]
    if not target:
        return ["lora.target_modules: got an empty list, allowed is at least one module-name ending"]
    if any(not ending.strip() for ending in target):
        return [f"lora.target_modules: got {list(target)}, allowed are endings of module names, none of them empty"]
    return []


def _metrics(validation: ValidationConfig) -> list[str]:
    names = validation.metrics
    if LOSS in names and len(set(names)) == len(names):
        return []
    return [
        f"validation.metrics: got {list(names)}, allowed is a list of different ones with {LOSS} among them: adapters "
        "are compared by it"
    ]


def _drift(validation: ValidationConfig) -> list[str]:
    prompts = validation.drift_prompts
    if all(prompt.strip() for prompt in prompts) and len(set(prompts)) == len(prompts):
        return []
    return [f"validation.drift_prompts: got {list(prompts)}, allowed are different texts, none of them empty"]


def _likeness(validation: ValidationConfig, sample: SampleConfig) -> list[str]:
    if validation.likeness is None or (sample.enabled and any(scale > 0 for scale in sample.scales)):
        return []
    return [
        f"validation.likeness={validation.likeness}: nothing is drawn with the adapter that it could look at; leave it "
        "null, or draw (sample=default)"
    ]


def _betas(optimizer: OptimizerConfig) -> list[str]:
    betas = optimizer.betas
    if len(betas) != _BETAS or not all(0 <= b < 1 for b in betas):
        return [f"optimizer.betas: got {list(betas)}, allowed is two numbers, each from 0 up to but not 1"]
    return []


def _samples(sample: SampleConfig) -> list[str]:
    if not sample.enabled:
        return []
    problems = []
    if not sample.seeds:
        problems.append("sample.seeds: got an empty list, allowed is at least one seed (or sample=none)")
    if not sample.scales or not all(0 <= scale <= _MOST_SCALE for scale in sample.scales):
        allowed = f"at least one number from 0 to {_MOST_SCALE:g}"
        problems.append(f"sample.scales: got {list(sample.scales)}, allowed is {allowed}")
    return problems


_RULES: tuple[tuple[tuple[str, ...], Callable[..., list[str]]], ...] = (
    (("trainer",), _length),
    (("trainer",), _average),
    (("trainer", "validation", "data"), _patience),
    (("model", "data"), _resolution),
    (("model",), _single_file),
    (("lora",), _targets),
    (("optimizer",), _betas),
    (("validation",), _metrics),
    (("validation",), _drift),
    (("validation", "sample"), _likeness),
    (("sample",), _samples),
    (("sample",), data_rules.prompts),
    (("data",), data_rules.folds),
)

_WARNINGS: tuple[Callable[[JobConfig], list[Warned]], ...] = (data_rules.data_warnings, _warmup)
