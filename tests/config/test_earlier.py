"""Configurations that an earlier version stored still parse, with the digest that they had."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import yaml

from lora_foundry.config import ConfigError, parse, parse_stored
from lora_foundry.config.digest import config_digest
from lora_foundry.config.earlier import LATER_GROUPS, MEANT, completed
from tests.phrases import WANTS_A_MAPPING

# The defaults of version 0.1.0 with a folder of photos, and the digest that it gave them.
STORED = """
name: null
seed: 0
resume: null
model: {name: tiny-sd, family: sd, path: assets/tiny-sd, config: null, revision: null, version: sd_v1, stride: 16,
  prediction_type: auto}
data: {name: duotone, path: assets/emoji-duotone/train, val_path: assets/emoji-duotone/val, val_fraction: 0.1,
  batch_size: 4, resolution: 64, crop: center, crop_variants: 4, flip: true, background: white, caption_dropout: 0.1,
  caption_prefix: '', on_bad: error, cache_dir: .cache/foundry}
lora: {rank: 8, alpha: null, dropout: 0.0, target_modules: all, use_rslora: false, init: kaiming, init_from: null}
objective: {snr_gamma: null, noise_offset: 0.0}
optimizer: {name: adamw, lr: 0.003, betas: [0.9, 0.999], eps: 1.0e-08, weight_decay: 0.01}
scheduler: {name: cosine, warmup_steps: 10, min_lr_ratio: 0.0}
trainer: {max_steps: 400, epochs: null, accumulate: 1, max_grad_norm: 1.0, gradient_checkpointing: false,
  precision: 32-true, log_every: 10, save_every: null, checkpoint_every: null, checkpoint_s: 60.0, accelerator: auto}
memory: {mode: exact, limit_gib: null, may_change: []}
validation: {every: 100, timesteps: 8, max_images: 8, batch_rows: null}
sample: {enabled: true, prompts: [red heart, cat face, bear face, house building], seeds: [0], scales: [0.0, 0.8, 1.0],
  every: 200, steps: 20, guidance: 3.0}
tracking: {enabled: true, uri: null, root: mlruns, experiment: lora-foundry, flush_s: 2.0}
"""
DIGEST = "cf539c203c3f86a0118b0dc1e3118a6f44c012838906bae718276e7d76f0adfb"
PRODIGY_DIGEST = (
    "717fab5bda79f8f928b3f2ad14e20071b014535d554f0b36a8654a3662d1c8c6"  # with prodigy at rate 1, before options
)


@pytest.fixture
def stored() -> dict[str, Any]:
    return yaml.safe_load(STORED)


def test_a_job_of_the_first_version_has_its_old_digest_so_that_it_can_be_resumed(stored: dict[str, Any]) -> None:
    assert config_digest(parse_stored(stored)) == DIGEST


def test_the_defaults_of_later_keys_have_the_old_digest_so_that_finished_jobs_are_found(stored: dict[str, Any]) -> None:
    now = completed(stored)
    now["data"]["repeats"] = "auto"
    assert config_digest(parse(now)) == DIGEST


@pytest.mark.parametrize("options", [None, {}, {"d_coef": 1.0, "safeguard_warmup": False}])
def test_options_that_say_what_was_meant_before_have_the_old_digest(stored: dict[str, Any], options: object) -> None:
    stored["optimizer"] |= {"name": "prodigy", "lr": 1.0, "options": options}
    assert config_digest(parse_stored(stored)) == PRODIGY_DIGEST


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("data", "captions", "name"),
        ("data", "repeats", "none"),
        ("data", "follow_links", True),
        ("data", "without", ("a/*",)),
        ("validation", "metrics", ("loss", "cosine")),
    ],
)
def test_other_values_of_later_keys_have_digests_of_their_own(
    stored: dict[str, Any], group: str, key: str, value: object
) -> None:
    job = parse_stored(stored)
    other = dataclasses.replace(job, **{group: dataclasses.replace(getattr(job, group), **{key: value})})
    assert config_digest(other) != DIGEST


def test_what_is_drawn_decides_no_adapter(stored: dict[str, Any]) -> None:
    job = parse_stored(stored)
    assert config_digest(dataclasses.replace(job, data=dataclasses.replace(job.data, prompts=("a",)))) == DIGEST


def test_a_stored_value_is_kept_and_the_argument_stays_as_it_was(stored: dict[str, Any]) -> None:
    stored["data"]["captions"] = "name"
    before = copy.deepcopy(stored)
    assert completed(stored)["data"]["captions"] == "name"
    assert stored == before


def test_a_damaged_configuration_is_said_to_be_one(stored: dict[str, Any]) -> None:
    stored["data"] = "text"
    with pytest.raises(ConfigError, match="data: got 'text'"):
        parse_stored(stored)
    with pytest.raises(ConfigError, match=WANTS_A_MAPPING):
        parse_stored([])  # type: ignore[arg-type]


def test_a_new_job_must_have_every_key(stored: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(stored)
    missing = {f"{group}.{key}" for group, keys in MEANT.items() for key in keys if group not in LATER_GROUPS}
    missing |= set(LATER_GROUPS)
    assert {line.split(":")[0] for line in caught.value.problems} == missing
