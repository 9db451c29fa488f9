"""How long a step will take, before any was measured."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lora_foundry.config.compose import compose_job
from lora_foundry.config.schema import JobConfig
from lora_foundry.lora.inject import inject
from lora_foundry.memory import calibration
from lora_foundry.memory.pace import Rate, rate_of, seconds_of_step
from lora_foundry.memory.predict import Curve, curve_of
from lora_foundry.memory.trace import placeholder, run_once, trace_step, zeros
from lora_foundry.models.opening import open_sizes
from lora_foundry.tasks.denoising import Denoising
from lora_foundry.training.pack import Pack, adapter_spec
from lora_foundry.training.precision import DTYPES

CURVE = Curve(
    weights=10**9, floats=10**6, adapter_bytes=4, copy=0, fixed=0, row=0,
    ops=2000, flops_fixed=10**6, flops_row=10**10,
)  # fmt: skip


def test_a_step_is_kernels_arithmetic_and_traffic() -> None:
    nothing = Rate(per_op_s=0.0, flops_per_s=1e99, bytes_per_s=1e99)
    kernels = Rate(per_op_s=1e-6, flops_per_s=1e99, bytes_per_s=1e99)
    arithmetic = Rate(per_op_s=0.0, flops_per_s=1e10, bytes_per_s=1e99)
    traffic = Rate(per_op_s=0.0, flops_per_s=1e99, bytes_per_s=1e9)
    assert seconds_of_step(CURVE, 8, 4, nothing) == pytest.approx(0, abs=1e-9)
    assert seconds_of_step(CURVE, 8, 4, kernels) == pytest.approx((2000 + 4 * 24) * 1e-6)
    assert seconds_of_step(CURVE, 8, 4, arithmetic) == pytest.approx(8 + 1e-4)
    assert seconds_of_step(CURVE, 8, 4, traffic) == pytest.approx(2 + 4 * 14 * 4e6 / 1e9)  # twice the base


@pytest.mark.slow
def test_a_pack_of_eight_is_predicted_to_cost_less_than_eight_steps(traces: Path) -> None:
    curve = curve_of(compose_job(f"data.cache_dir={traces}", "lora.rank=8"))
    rate = Rate(per_op_s=2e-5, flops_per_s=7e10, bytes_per_s=4e10)  # of a two-core machine, as calibrated
    alone, together = seconds_of_step(curve, 1, 1, rate), seconds_of_step(curve, 8, 8, rate)
    assert 1.5 < 8 * alone / together < 4  # 2.2x was measured on one thread, 3.0x on two (docs/benchmarks.md)


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_straight_line_through_two_traces_meets_a_third(tmp_path: Path, dropout: float) -> None:
    config = compose_job(
        f"data.cache_dir={tmp_path}", f"lora.dropout={dropout}", "lora.target_modules=[to_q,ff.net.2,conv1]"
    )
    curve = curve_of(config)
    third = trace_step(open_sizes(config.model), config, [6]).steps[6]
    assert curve.flops_fixed + 6 * curve.flops_row == third.flops
    assert curve.ops == pytest.approx(third.ops, rel=0.05)


@pytest.mark.slow
def test_checkpointing_computes_more(tmp_path: Path) -> None:
    words = (f"data.cache_dir={tmp_path}", "lora.target_modules=attention")
    plain = curve_of(compose_job(*words))
    again = curve_of(compose_job(*words, "trainer.gradient_checkpointing=true"))
    assert 1.3 * plain.flops_row < again.flops_row < 1.5 * plain.flops_row  # a forward pass in two and a bit
    assert again.ops > 1.1 * plain.ops


@pytest.mark.slow
def test_a_cpu_is_measured_once_and_answered_without_torch_then(tmp_path: Path) -> None:
    start = time.perf_counter()
    rate = rate_of("cpu", tmp_path, threads=1)
    assert time.perf_counter() - start < 10  # 0.5 s on a quiet machine
    assert rate_of("cpu", tmp_path, threads=1) == rate
    code = (
        "import sys\nfrom pathlib import Path\nfrom lora_foundry.memory.pace import rate_of\n"
        f"print(rate_of('cpu', Path({str(tmp_path)!r}), threads=1) , 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == f"{rate} False"


def test_what_decides_a_cpus_rate_is_in_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measure(precision: str, threads: int | None) -> Rate:
        asked.append((precision, threads))
        return Rate(per_op_s=float(len(asked)), flops_per_s=1.0, bytes_per_s=1.0)

    monkeypatch.setattr(calibration, "measure_cpu", measure)
    for precision, threads in (("32-true", 1), ("32-true", 2), ("bf16-mixed", 2), ("32-true", 1)):
        rate_of("cpu", tmp_path, precision=precision, threads=threads)  # type: ignore[arg-type]
    assert asked == [("32-true", 1), ("32-true", 2), ("bf16-mixed", 2)]
    for path in (tmp_path / "memory").glob("rate-*.json"):
        path.write_text("{ torn")
    assert rate_of("cpu", tmp_path, threads=1).per_op_s == 4.0


@pytest.mark.slow
def test_measuring_leaves_threads_and_random_numbers_as_they_were() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    torch.set_num_threads(2)
    try:
        calibration.measure_cpu("32-true", threads=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "bf16"),
    [("NVIDIA H100 80GB HBM3", 989), ("NVIDIA A100-SXM4-80GB", 312), ("Tesla T4", 8.1), ("NVIDIA L4", 121),
     ("NVIDIA L40S", 362), ("NVIDIA GeForce RTX 4090", 165), ("Somebody's card", 60)],
)  # fmt: skip
def test_a_card_is_known_by_its_drivers_name(name: str, bf16: float, tmp_path: Path) -> None:
    rate = rate_of(name, tmp_path, precision="bf16-mixed")
    assert rate.flops_per_s == pytest.approx(0.3 * bf16 * 1e12)
    assert rate_of(name, tmp_path).flops_per_s <= rate.flops_per_s
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("words", [("data.batch_size=1",), ("data.batch_size=8",), ("trainer.precision=bf16-mixed",)])
def test_an_estimate_is_near_what_a_step_takes(words: tuple[str, ...], traces: Path, tmp_path: Path) -> None:
    """Within 2.5 on a machine that may be busy; docs/memory.md has a table taken on a quiet one, within 1.6."""
    config = compose_job(f"data.cache_dir={traces}", "lora.rank=8", *words)
    rows = config.data.batch_size
    rate = rate_of("cpu", tmp_path, precision=config.trainer.precision)
    estimate = seconds_of_step(curve_of(config), rows, 1, rate)
    assert estimate / 2.5 < _really(config) < estimate * 2.5


def _really(config: JobConfig) -> float:
    sizes = open_sizes(config.model)
    denoiser = sizes.build(DTYPES[config.trainer.precision].base)
    for tensor in (*denoiser.module.parameters(), *denoiser.module.buffers()):
        torch.nn.init.normal_(tensor, std=0.02)
    member = placeholder(config)
    inject(denoiser.module, member.name, adapter_spec(member, denoiser))
    pack = Pack(Denoising(denoiser), [member], injected=True)
    batch, taken = zeros(pack, sizes, [config.data.batch_size]), []
    for _ in range(5):
        start = time.perf_counter()
        run_once(pack, batch)
        pack.optimizer.step({member.name: 1e-4})
        taken.append(time.perf_counter() - start)
    return min(taken)
