"""``resume=<job folder> trainer.max_steps=...`` through the command line, with a worker that trains nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_foundry.launch.records.stored_jobs import read_stored_config, steps_taken
from tests.commands.ran import Command
from tests.launch.seeds import seeds
from tests.phrases import NO_CHECKPOINT

COSINE = ("scheduler=cosine", "scheduler.warmup_steps=0")
SHORT = (seeds(0, 1), "-m", "trainer.max_steps=100")


def _lengths(job_dir: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads((job_dir / "length.json").read_text())["lengths"]
    return told


@pytest.mark.slow
def test_a_job_goes_on_in_its_place_and_is_no_longer_what_the_first_command_asks_for(
    command: Command, tmp_path: Path
) -> None:
    first = command(*SHORT, *COSINE, "hydra.launcher.skip_finished=true")
    job_dir = first.sweep_dir / "0"
    taken = steps_taken(job_dir)
    assert taken

    planned = command(f"resume={job_dir}", "trainer.max_steps=200", "hydra.launcher.plan_only=true", sweep_dir=None)
    assert planned.code == 0, planned.err
    assert not (job_dir / "length.json").exists(), "a plan changes nothing"
    ran = command(f"resume={job_dir}", "trainer.max_steps=200", sweep_dir=None)
    assert ran.code == 0, ran.err
    for shown in (planned.out, ran.out):
        text = " ".join(shown.split())
        assert f"trains longer: 100 steps, then 200 steps from step {taken} on" in text
        assert "scheduler.name=cosine: its learning rate was " in text
        assert "where the schedule over 200 steps has it" in text
    assert [(one["max_steps"], one["after"]) for one in _lengths(job_dir)] == [(100, 0), (200, taken)]
    assert read_stored_config(job_dir).trainer.max_steps == 200
    assert first.results()[0]["state"] == "FINISHED"

    again = command(*SHORT, *COSINE, "hydra.launcher.skip_finished=true", f"hydra.sweep.dir={tmp_path}/new",
                    sweep_dir=None)  # fmt: skip
    assert again.code == 0, again.err
    sent = [line["jobs"] for line in first.commands() if line["cmd"] == "pack"]
    assert len(sent) == 2, "the sweep of before has nothing more to do"
    assert command(f"resume={job_dir}", sweep_dir=None).code == 0, "it goes on as any other"


@pytest.mark.slow
def test_what_cannot_be_its_length_is_refused_with_the_steps_that_it_took(command: Command) -> None:
    first = command(seeds(0), "trainer.max_steps=100")
    job_dir = first.sweep_dir / "0"
    ran = command(f"resume={job_dir}", f"trainer.max_steps={steps_taken(job_dir)}", sweep_dir=None)
    assert ran.code == 2
    assert f"has taken {steps_taken(job_dir)} optimizer steps already; allowed is more" in ran.err
    ran = command(f"resume={job_dir}", "trainer.max_steps=200", "trainer.accumulate=2", sweep_dir=None)
    assert ran.code == 2
    assert "trainer.accumulate=2: not together with resume=" in ran.err
    assert "trainer.max_steps=200" not in ran.err
    for file in (job_dir / "checkpoints").iterdir():
        file.unlink()
    ran = command(f"resume={job_dir}", "trainer.max_steps=200", sweep_dir=None)
    assert ran.code == 2
    assert NO_CHECKPOINT in ran.err
    assert "python -m src.train seed=0 trainer.max_steps=200" in ran.err
    assert not (job_dir / "length.json").exists()
