"""A configuration as flat parameters."""

from __future__ import annotations

from dataclasses import replace

from lora_foundry.tracking.parameters import LONGEST_VALUE, flatten
from tests.tracking.fake_sweep import a_job_config


def test_every_value_has_its_dotted_name_and_is_written_as_in_yaml() -> None:
    params = flatten(a_job_config(), "flat-rank4")
    expected = {
        "name": "flat-rank4",
        "seed": "0",
        "lora.rank": "4",
        "lora.alpha": "4.0",
        "lora.use_rslora": "false",
        "lora.target_modules": '["to_q", "to_v"]',
        "data.val_path": "null",
        "data.caption_prefix": "",
        "optimizer.lr": "0.002",
        "trainer.precision": "32-true",
    }
    assert {key: params.get(key) for key in expected} == expected


def test_a_resumed_job_has_the_parameters_that_it_began_with() -> None:
    config = a_job_config()
    assert flatten(replace(config, resume="multirun/x/0"), "a") == flatten(config, "a")


def test_values_that_are_too_long_for_mlflow_are_cut() -> None:
    config = a_job_config()
    long = replace(config, sample=replace(config.sample, prompts=("word " * 3000,)))
    assert len(flatten(long, "a")["sample.prompts"]) == LONGEST_VALUE
