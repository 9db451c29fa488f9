"""Parameters are what somebody set: few, so that what tells jobs apart is found at once."""

from __future__ import annotations

from dataclasses import replace

from lora_foundry.tracking.parameters import LONGEST_VALUE, chosen, shared
from tests.tracking.fake_sweep import a_job_config


def test_what_was_set_is_a_parameter_as_it_is_used_and_nothing_else_is() -> None:
    given = {"lora.rank": "4", "lora.alpha": "1x", "lora.target_modules": "[to_q,to_v]", "data": "emoji-flat"}
    assert chosen(a_job_config(), given) == {
        "lora.rank": "4",
        "lora.alpha": "4.0",
        "lora.target_modules": '["to_q", "to_v"]',
        "data": "emoji-flat",
    }


def test_how_a_job_is_called_goes_on_and_is_recorded_are_no_parameters() -> None:
    """They may change while a run's parameters cannot; a store's address may have a password in it."""
    given = {
        "name": "a",
        "resume": "multirun/x/0",
        "sweep": "rank",
        "tracking": "none",
        "tracking.uri": "http://me:x@h",
    }
    assert chosen(a_job_config(), {**given, "seed": "0"}) == {"seed": "0"}


def test_a_key_that_mlflow_takes_no_parameter_of_is_left_out() -> None:
    assert chosen(a_job_config(), {"data@x": "1", "optimizer.options.d_coef": "0.5"}) == {
        "optimizer.options.d_coef": "0.5"
    }


def test_values_that_are_too_long_for_mlflow_are_cut() -> None:
    config = a_job_config()
    long = replace(config, sample=replace(config.sample, prompts=("word " * 3000,)))
    assert len(chosen(long, {"sample.prompts": "[...]"})["sample.prompts"]) == LONGEST_VALUE


def test_a_sweep_has_what_its_jobs_share_and_of_what_was_swept_the_values() -> None:
    jobs = [{"lora.rank": rank, "optimizer.lr": "0.001", "seed": "1"} for rank in ("4", "8", "4", "16")]
    jobs[-1].pop("seed")
    assert shared(jobs) == {
        "swept": "lora.rank, seed",
        "lora.rank": "4, 8, 16",
        "seed": "1",
        "optimizer.lr": "0.001",
    }
    assert shared(jobs[:1]) == jobs[0]
    assert shared([]) == {}


def test_of_many_numbers_the_ends_are_told_and_of_many_words_all() -> None:
    rates = [{"optimizer.lr": f"{0.001 * (10 - n):g}"} for n in range(9)]
    assert shared(rates)["optimizer.lr"] == "0.002 to 0.01 (9 values)"
    assert shared([{"data": f"d{n}"} for n in range(9)])["data"].split(", ") == [f"d{n}" for n in range(9)]
