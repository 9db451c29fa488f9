"""What predictions were off by is kept, and corrects later ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lora_foundry.config import JobConfig
from lora_foundry.config.compose import compose_job
from lora_foundry.memory import record
from lora_foundry.memory.between import pictures_of
from lora_foundry.memory.libraries import on_card
from lora_foundry.memory.predict import curve_of
from lora_foundry.memory.record import correction, note_error
from tests.config.chosen import optimizer


@pytest.mark.slow
def test_a_correction_is_the_median_of_what_runs_took(own_traces: Path) -> None:
    config = compose_job(f"data.cache_dir={own_traces}")
    curve = curve_of(config)
    predicted = curve.needs(4, [optimizer("adamw")], on_card()).allocated
    assert correction(config, "card") == (1.0, 0, 0)
    for factor in (1.2, 1.1):
        told = note_error([config], 4, measured=int(predicted * factor), beside=0, device="card")
        assert told == predicted
    assert correction(config, "card") == (1.0, 2, 0)
    note_error([config], 4, measured=predicted * 9, beside=0, device="card")
    note_error([config], 4, measured=predicted * 9, beside=0, device="another card")
    other = compose_job(f"data.cache_dir={own_traces}", "model=sd15", "data.resolution=512")
    assert correction(other, "card") == (1.0, 0, 0), "what a small base is off by is no measure for a large one"
    factor, runs, _ = correction(config, "card")
    assert runs == 3
    assert factor == pytest.approx(1.2, abs=1e-6)


@pytest.mark.slow
def test_what_was_there_before_has_the_base_in_it(own_traces: Path) -> None:
    config = compose_job(f"data.cache_dir={own_traces}")
    needs = curve_of(config).needs(2, [optimizer("adamw")] * 2, on_card())
    beside = 10**9
    without = needs.allocated - needs.weights
    assert note_error([config] * 2, 2, measured=beside + without, beside=beside, device="cpu") == beside + without


@pytest.mark.slow
def test_a_kind_that_was_never_predicted_is_passed_over(tmp_path: Path) -> None:
    config = compose_job(f"data.cache_dir={tmp_path}")
    assert note_error([config], 1, measured=1, beside=0, device="cpu") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_torn_line_is_passed_over(own_traces: Path) -> None:
    config = compose_job(f"data.cache_dir={own_traces}")
    curve_of(config)
    for _ in range(3):
        note_error([config], 1, measured=10**9, beside=0, device="cpu")
    path = own_traces / "memory" / "errors.jsonl"
    path.write_text(path.read_text() + '{"t": 1, "dev')
    assert correction(config, "cpu")[1] == 3


@pytest.mark.slow
@pytest.mark.parametrize("older", [{}, {"format": 1}], ids=["without a format", "of another format"])
def test_records_of_other_formats_are_counted_and_not_learned_from(older: dict[str, int], tmp_path: Path) -> None:
    config = compose_job(f"data.cache_dir={tmp_path}")
    line = {"t": 0, "base": config.model.name, "device": "card", "predicted": 10, "measured": 21}
    path = tmp_path / "memory" / "errors.jsonl"
    path.parent.mkdir()
    path.write_text(f"{json.dumps(line | older)}\n" * 3)
    assert correction(config, "card") == (1.0, 0, 3)
    path.write_text(path.read_text() + f"{json.dumps(line | {'format': record._FORMAT})}\n" * 3)
    assert correction(config, "card") == (pytest.approx(2.1), 3, 3)


@pytest.mark.slow
def test_what_kernels_of_a_cpu_take_is_no_error_of_the_prediction(own_traces: Path) -> None:
    words = ("data.batch_size=8", "trainer.precision=bf16-mixed", "trainer.gradient_checkpointing=true")
    config = compose_job(f"data.cache_dir={own_traces}", "lora.target_modules=all", *words)
    pictures_of(config)
    needs = curve_of(config).needs(8, [optimizer("adamw")], cpu_threads=2)
    assert needs.tensors > curve_of(config).needs(8, [optimizer("adamw")]).tensors
    config = replace(config, sample=replace(config.sample, enabled=False))
    told = note_error([config], 8, measured=needs.tensors, beside=0, device="cpu", cpu_threads=2)
    assert told == needs.tensors


@pytest.mark.slow
def test_what_decodes_pictures_waits_beside_the_steps_of_a_cpu(own_traces: Path) -> None:
    config = compose_job(f"data.cache_dir={own_traces}")
    curve, pictures = curve_of(config), pictures_of(config)

    def noted(config: JobConfig, cpu_threads: int | None) -> int | None:
        return note_error([config], 4, measured=1, beside=0, device="cpu", cpu_threads=cpu_threads)

    taken = curve.needs(4, [optimizer("adamw")], cpu_threads=1).tensors
    without = replace(config, sample=replace(config.sample, enabled=False))
    assert noted(config, 1) == taken + pictures.decoder
    assert noted(without, 1) == taken
    assert noted(config, None) == curve.needs(4, [optimizer("adamw")], on_card()).allocated
    for kept in (own_traces / "memory").glob("*.json"):
        if "decoder" in kept.read_text():
            kept.unlink()
    assert noted(config, 1) is None, "what was not predicted corrects nothing"
    assert noted(without, 1) == taken
