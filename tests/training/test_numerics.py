"""Torch's switches: TF32 where a 32-bit base trains and nowhere else, kernels that repeat where that is asked for."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_foundry.config.digest import config_digest
from lora_foundry.config.kinds import kind_of, shared_text
from lora_foundry.data.keys import caption_key, image_key
from lora_foundry.data.transform import variants
from lora_foundry.launch.plan.packing import make_plan
from lora_foundry.launch.plan.sizes import Sizes
from lora_foundry.training import export
from lora_foundry.training.pack import Pack, never
from lora_foundry.training.precision import DTYPES, cannot_repeat, computing, exact
from lora_foundry.training.preparing import _Patient
from tests.launch.jobs import job
from tests.training.world import Spec, distance, make_member, make_task, train

CARD, CPU = torch.device("cuda"), torch.device("cpu")


def _switches() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def _as_torch_has_them() -> None:
    assert _switches() == ("highest", True)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("precision", "switches"),
    [
        ("32-true", ("high", True)),
        ("16-mixed", ("highest", True)),
        ("bf16-mixed", ("highest", True)),
        ("64-true", ("highest", False)),
    ],
)
def test_a_card_multiplies_in_tf32_for_a_32_bit_base_alone(precision: str, switches: tuple[str, bool]) -> None:
    with computing(job(trainer__precision=precision).trainer, CARD):
        assert _switches() == switches
        assert torch.backends.cuda.matmul.allow_tf32 is (switches[0] == "high"), "read as Lightning reads it"
    assert _switches() == ("highest", True)


def test_on_the_cpu_nothing_is_switched() -> None:
    with computing(job(trainer__precision="32-true").trainer, CPU):
        assert _switches() == ("highest", True)


def test_what_is_kept_is_encoded_without_tf32_whatever_trains() -> None:
    class Encoder:
        fingerprint = "x"

        def encode(self, batch: list[int]) -> torch.Tensor:
            seen.append(_switches())
            return torch.zeros(len(batch))

    seen: list[tuple[str, bool]] = []
    with computing(job(trainer__precision="32-true").trainer, CARD):
        _Patient(Encoder(), never, CPU).encode([1, 2])
        assert _switches() == ("high", True)
    assert seen == [("highest", False)]


@pytest.mark.slow
def test_files_are_tried_without_tf32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = make_member(Spec("a", ("trainer.precision=32-true",)), tmp_path)
    pack, seen = Pack(make_task(torch.float32), [member]), []
    outputs = pack.task.outputs
    monkeypatch.setattr(pack.task, "outputs", lambda inputs: (seen.append(_switches()), outputs(inputs))[1])
    with computing(member.config.trainer, CARD):
        export.live_outputs(pack, [member])
        export._of_merged(pack, member)
    assert seen == [("highest", False)] * 3


def test_an_error_inside_leaves_torch_as_it_was() -> None:
    trainer = job(trainer__precision="32-true", trainer__deterministic=True).trainer
    with pytest.raises(RuntimeError, match="inside"), computing(trainer, CARD), exact():
        raise RuntimeError("inside")
    assert _switches() == ("highest", True)
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_is_torchs_own_switch_and_cudnns() -> None:
    with computing(job(trainer__deterministic=True).trainer, CPU):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.slow
def test_a_deterministic_training_runs_and_is_the_same_on_the_cpu(tmp_path: Path) -> None:
    """No operation of a step, a validation or an export is one that torch refuses then."""
    words = ("trainer.precision=32-true", "lora.target_modules=all", "lora.dropout=0.1")
    specs = [Spec("a", words), Spec("b", (*words, "data.batch_size=1", "optimizer=prodigy"))]
    trained = []
    for repeats in (True, False):
        own = [Spec(s.name, (*s.overrides, f"trainer.deterministic={str(repeats).lower()}")) for s in specs]
        with computing(own[0].config().trainer, CPU) if repeats else nullcontext():
            trained.append(train(own, tmp_path / str(repeats)))
    for spec in specs:
        assert distance(trained[0].weights(spec.name), trained[1].weights(spec.name)) == 0.0


@pytest.mark.parametrize("got", [None, ":0:0", "nonsense"])
def test_a_card_whose_cublas_was_not_told_in_time_is_refused(got: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, name = job(trainer__deterministic=True).trainer, "CUBLAS_WORKSPACE_CONFIG"
    monkeypatch.delenv(name, raising=False)
    if got is not None:
        monkeypatch.setenv(name, got)
    assert f"{name}={got!r} in the environment, allowed is :4096:8 or :16:8" in str(cannot_repeat(trainer, CARD))
    assert cannot_repeat(trainer, CPU) is None
    assert cannot_repeat(job().trainer, CARD) is None
    monkeypatch.setenv(name, ":16:8")
    assert cannot_repeat(trainer, CARD) is None


def test_packs_agree_in_it_and_no_pack_is_tried_in_halves() -> None:
    jobs = {0: job(), 1: job(seed=1), 2: job(seed=2, trainer__deterministic=True)}
    plan = make_plan(jobs)
    assert [pack.jobs for pack in plan.packs] == [(0, 1), (2,)]
    assert any("trainer.deterministic cannot differ inside a pack" in line for line in plan.reasons)
    sizes = Sizes(None, 1.05)
    assert sizes.trial([jobs[0], jobs[1]]) == 1.05
    assert sizes.trial([jobs[2], jobs[2]]) is None


def test_what_was_noted_of_jobs_before_there_was_the_key_counts() -> None:
    """Digests, paces and gains: a key that came later is in none of them at what was meant before."""
    assert "deterministic" not in shared_text(job())
    assert kind_of(job()) != kind_of(job(trainer__deterministic=True))
    assert config_digest(job()) != config_digest(job(trainer__deterministic=True))


def test_what_a_card_computes_in_tf32_is_kept_by_another_key() -> None:
    on_cpu, on_card = (DTYPES["32-true"].decides(device) for device in (CPU, CARD))
    assert on_cpu == {"dtypes": ["torch.float32", "torch.float32"]}, "what a CPU has kept stays"
    assert on_card != on_cpu
    for precision in ("16-mixed", "bf16-mixed", "64-true"):
        assert DTYPES[precision].decides(CARD) == DTYPES[precision].decides(CPU)  # type: ignore[index]


def test_latents_and_text_states_that_may_have_been_made_in_tf32_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[dict[str, Any]] = []
    monkeypatch.setattr("lora_foundry.data.keys.key_of", lambda values: described.append(values) or "")
    data = job().data
    image_key("d" * 64, data, variants(data)[0], fingerprint="x", dtype=torch.float32)
    caption_key("a cat", fingerprint="x", dtype=torch.float32)
    assert [values["products"] for values in described] == ["ieee", "ieee"]
