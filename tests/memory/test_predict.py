"""A prediction is the bytes that a step then takes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_foundry.config import JobConfig
from lora_foundry.config.compose import compose_job
from lora_foundry.lora.inject import inject
from lora_foundry.memory import predict as prediction
from lora_foundry.memory import trace
from lora_foundry.memory.fits import largest_within, most_that_fits
from lora_foundry.memory.libraries import NOTHING, Beside, cublas_workspace, on_card
from lora_foundry.memory.predict import GIB, Curve, curve_of, is_known, predict
from lora_foundry.memory.tally import Tally
from lora_foundry.memory.trace import GRAIN, placeholder, run_once, trace_step, zeros
from lora_foundry.models.opening import open_sizes
from lora_foundry.models.protocol import BaseError
from lora_foundry.tasks.denoising import Denoising
from lora_foundry.training.pack import Pack, adapter_spec
from lora_foundry.training.precision import DTYPES
from tests.config.chosen import optimizer


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the tests of traces themselves, which share none with others."""
    return tmp_path_factory.mktemp("cache")


def _really(config: JobConfig, members: int) -> int:
    """Bytes of the tensors of a real step, its arithmetic done."""
    sizes = open_sizes(config.model)
    denoiser = sizes.build(DTYPES[config.trainer.precision].base)
    denoiser.set_gradient_checkpointing(enabled=config.trainer.gradient_checkpointing)
    all_members = [placeholder(config, number) for number in range(members)]
    for member in all_members:
        inject(denoiser.module, member.name, adapter_spec(member, denoiser))
    pack = Pack(Denoising(denoiser), all_members, injected=True)
    tally = Tally(grain=GRAIN)
    module = denoiser.module
    base = [t for name, t in (*module.named_parameters(), *module.named_buffers()) if ".lora_" not in name]
    tally.add([*base, pack.bank.weights, pack.bank.gradients])
    with tally:
        run_once(pack, zeros(pack, sizes, [config.data.batch_size] * members))
    return tally.peak + 2 * pack.bank.weights.nbytes  # AdamW's two moments, made before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("members", "overrides"),
    [
        (1, ("data.batch_size=5", "lora.rank=4", "lora.target_modules=attention")),
        (4, ("data.batch_size=2", "lora.rank=16")),
        (3, ("data.batch_size=1", "trainer.precision=bf16-mixed", "lora.dropout=0.1")),
        (6, ("data.batch_size=1", "trainer.precision=bf16-mixed", "lora.rank=64", "lora.target_modules=attention")),
        (2, ("data.batch_size=2", "trainer.gradient_checkpointing=true")),
        (1, ("data.batch_size=2", "data.resolution=128", "lora.alpha=0.5x", "lora.target_modules=[to_q,conv1]")),
    ],
)
def test_predicted_bytes_are_those_of_a_real_step(members: int, overrides: tuple[str, ...], cache: Path) -> None:
    config = compose_job(f"data.cache_dir={cache}", *overrides)
    assert predict(config, members=members).tensors == pytest.approx(_really(config, members), rel=0.02)


@pytest.mark.slow
def test_the_parts_add_up_and_mean_what_they_say(traces: Path) -> None:
    config = compose_job(f"data.cache_dir={traces}", "data.batch_size=1", "lora.rank=8")
    needs = predict(config, members=3, beside=Beside(context=7))
    floats = curve_of(config).floats
    assert needs.adapters == needs.gradients == 3 * 4 * floats
    assert needs.optimizer == 2 * needs.adapters
    unet = open_sizes(config.model).build(torch.float32).module
    assert needs.weights == pytest.approx(sum(p.nbytes for p in unet.parameters()), rel=0.01)
    assert needs.total == needs.tensors + 7


@pytest.mark.slow
def test_a_known_kind_is_answered_without_torch_and_at_once(traces: Path) -> None:
    config = compose_job(f"data.cache_dir={traces}", "lora.rank=8")
    curve_of(config)
    assert is_known(config)
    code = (
        "import sys, time\nfrom lora_foundry.config.compose import compose_job\n"
        "from lora_foundry.memory.predict import predict\n"
        f"config = compose_job('data.cache_dir={traces}', 'lora.rank=8')\n"
        "start = time.perf_counter()\npredict(config)\nprint(time.perf_counter() - start, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told[1] == "False"
    assert float(told[0]) < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        "lora.rank=4", "lora.target_modules=attention", "data.resolution=128", "trainer.precision=bf16-true",
        "trainer.gradient_checkpointing=true", "lora.dropout=0.2", "model=sd15", "lora.alpha=2x",
    ],
)  # fmt: skip
def test_what_decides_a_trace_is_in_its_key(changed: str, traces: Path) -> None:
    curve_of(compose_job(f"data.cache_dir={traces}", "lora.rank=8"))
    extra = ["data.resolution=64"] if changed == "model=sd15" else []
    assert not is_known(compose_job(f"data.cache_dir={traces / 'other'}", "lora.rank=8"))
    known = {p.name for p in (traces / "memory").glob("*.json")}
    config = compose_job(f"data.cache_dir={traces}", "lora.rank=8", changed, *extra)
    path = prediction._path(config, open_sizes(config.model))
    plain = compose_job(f"data.cache_dir={traces}", "lora.rank=8")
    assert path.name != prediction._path(plain, open_sizes(plain.model)).name
    assert known


@pytest.mark.slow
def test_what_does_not_decide_it_is_not(traces: Path) -> None:
    plain = compose_job(f"data.cache_dir={traces}")
    other = compose_job(f"data.cache_dir={traces}", "data.batch_size=7", "optimizer.lr=0.1", "seed=4")
    names = [prediction._path(config, open_sizes(config.model)).name for config in (plain, other)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_a_damaged_trace_is_taken_anew(tmp_path: Path) -> None:
    config = compose_job(f"data.cache_dir={tmp_path}", "lora.target_modules=[to_q]")
    good = curve_of(config)
    path = prediction._path(config, open_sizes(config.model))
    path.write_text("{ torn")
    assert curve_of(config) == good


@pytest.mark.slow
def test_a_straight_line_through_two_traces_meets_a_third(cache: Path) -> None:
    config = compose_job(f"data.cache_dir={cache}", "lora.target_modules=attention-mlp")
    curve = curve_of(config)
    third = trace_step(open_sizes(config.model), config, [6]).steps[6].peak
    assert curve.fixed + 6 * curve.row == pytest.approx(third, rel=0.02)


# Of Stable Diffusion 1.5's size at 512 px in bf16, rank 8 on attention, GiB of torch.cuda.max_memory_allocated on an
# H100 by jobs of a pack and their batch (python -m bench.device, November 2026).
_ON_A_CARD = {
    (1, 1): 2.49, (2, 1): 3.28, (4, 1): 4.86, (8, 1): 8.06, (16, 1): 14.42,
    (1, 2): 3.26, (2, 2): 4.81, (4, 2): 7.96, (8, 2): 14.21,
    (1, 4): 4.79, (2, 4): 7.91, (4, 4): 14.11, (8, 4): 26.53,
}  # fmt: skip
# What its allocator held then.
_HELD = {
    (1, 1): 2.51, (2, 1): 3.40, (4, 1): 5.08, (8, 1): 8.23,
    (1, 2): 3.37, (2, 2): 5.03, (4, 2): 8.12, (8, 2): 14.72,
    (1, 4): 5.00, (2, 4): 8.07, (4, 4): 14.62, (8, 4): 27.14,
}  # fmt: skip
_SD15 = Curve(
    weights=1719110144,
    floats=1594368,
    adapter_bytes=4,
    copy=3188736,
    fixed=2870272,
    row=826373632,
    ops=2948,
    flops_fixed=0,
    flops_row=1780811311104,
)


def test_what_was_allocated_on_a_card_is_predicted_with_what_libraries_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    card = on_card()
    for (jobs, batch), measured in _ON_A_CARD.items():
        needs = _SD15.needs(jobs * batch, [optimizer("adamw")] * jobs, card)
        assert needs.allocated / GIB == pytest.approx(measured, rel=0.01), (jobs, batch)
        if (jobs, batch) in _HELD:
            assert (needs.allocated + needs.kept) / GIB == pytest.approx(_HELD[jobs, batch], rel=0.03), (jobs, batch)
        assert needs.total == needs.allocated + needs.kept + card.context


def test_each_member_beyond_the_first_has_a_copy_in_the_bases_dtype() -> None:
    needs = [_SD15.needs(8, [optimizer("adamw")] * members).copies for members in (1, 3)]
    assert needs == [0, 2 * _SD15.copy]


def test_the_most_that_fits_a_card_leaves_room_for_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    card, adamw = on_card(), optimizer("adamw")
    for budget in (4 * GIB, 7 * GIB, 24 * GIB):
        rows, members = _SD15.most_rows(budget, [adamw], card), _SD15.most_members(budget, 1, adamw, card)
        assert _SD15.needs(rows, [adamw], card).total <= budget < _SD15.needs(rows + 1, [adamw], card).total
        assert _SD15.needs(members, [adamw] * members, card).total <= budget
        assert budget < _SD15.needs(members + 1, [adamw] * (members + 1), card).total


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        (":4096:8", 32 * 2**20),
        (":16:8", 128 * 2**10),
        (":4096:2:16:8", 8 * 2**20 + 128 * 2**10),
        ("", 0),
        ("many", 0),
        (":4096", 0),
    ],
)
def test_cublas_takes_the_workspace_that_the_environment_names(
    asked: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cublas_workspace(asked) == size
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    few = on_card().workspaces
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", asked)
    assert on_card().workspaces - few == 2 * (size - 128 * 2**10)


def test_the_reverse_question() -> None:
    curve = Curve(
        weights=1000,
        floats=10,
        adapter_bytes=4,
        copy=0,
        fixed=100,
        row=50,
        ops=0,
        flops_fixed=0,
        flops_row=0,
    )
    assert curve.needs(3, [optimizer("adamw")]).total == 1000 + 4 * 40 + 100 + 150
    assert curve.most_rows(1000 + 160 + 100 + 149, [optimizer("adamw")]) == 2
    assert curve.most_rows(1000, [optimizer("adamw")]) == 0
    one = curve.needs(2, [optimizer("adamw")]).total
    assert curve.most_members(one - 1, 2, optimizer("adamw")) == 0
    assert curve.most_members(one, 2, optimizer("adamw")) == 1
    assert curve.most_members(one + 3 * (160 + 100), 2, optimizer("adamw")) == 4
    assert curve.needs(1, [optimizer("prodigy")]).optimizer == 160
    assert curve.needs(1, [optimizer("adafactor")]).optimizer < 40


@pytest.mark.slow
def test_the_most_that_fits_does_fit_and_one_more_does_not(traces: Path) -> None:
    config = compose_job(f"data.cache_dir={traces}", "data.batch_size=2", "lora.target_modules=[to_q]")
    budget = predict(config).tensors + GIB // 16
    most = most_that_fits(config, budget, checkpointing=False, beside=NOTHING)

    def fits(**data: int) -> bool:
        return predict(dataclasses.replace(config, data=dataclasses.replace(config.data, **data))).tensors <= budget

    assert most.batch > 2
    assert fits(batch_size=most.batch)
    assert not fits(batch_size=most.batch + 1)
    assert fits(resolution=most.resolution)
    assert not fits(resolution=most.resolution + config.model.stride)
    assert most.members > 1
    again = most_that_fits(config, budget, checkpointing=True, beside=NOTHING)
    assert again.batch > most.batch


@pytest.mark.parametrize("start", [1, 64, 512])
@pytest.mark.parametrize(
    "total",
    [
        lambda side: 10**9 + 40_000 * side**2,
        lambda side: 10**9 + 40_000 * side**2 + 3 * side**4,
        lambda side: 10**9 + 10**6 * (side // 7),
        lambda side: 10**9 + (10**12 if side > 100 else side),
        lambda _: 10**9,
        lambda _: 10**14,
    ],
    ids=["area", "attention", "stairs", "cliff", "flat", "nothing fits"],
)
def test_the_largest_side_is_found_whatever_the_curve(total: Callable[[int], int], start: int) -> None:
    budget, high = 2 * 10**9, 512
    asked: list[int] = []

    def counted(side: int) -> int:
        asked.append(side)
        return total(side)

    best = max((side for side in range(1, high + 1) if total(side) <= budget), default=0)
    assert largest_within(budget, counted, start, high) == best
    assert len(asked) == len(set(asked)), "a side costs seconds"
    assert len(asked) <= 18


def test_a_line_in_the_area_takes_few_looks() -> None:
    asked: list[int] = []

    def total(side: int) -> int:
        asked.append(side)
        return 10**9 + 40_000 * side**2 + side**3

    assert total(largest_within(2 * 10**9, total, 64, 512)) <= 2 * 10**9
    assert len(asked) <= 7


@pytest.mark.slow
def test_a_base_without_configs_is_an_error() -> None:
    config = compose_job("model=sd15", "model.config=null", "model.path=nobody/nothing", "data.resolution=64")
    with pytest.raises(BaseError, match=r"sizes are read from configs"):
        predict(config)


@pytest.mark.slow
def test_a_target_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    config = compose_job(f"data.cache_dir={tmp_path}", "lora.target_modules=[to_nothing]")
    with pytest.raises(ValueError, match="to_nothing"):
        predict(config)


@pytest.mark.slow
def test_sizes_of_the_known_bases() -> None:
    """859,520,964 and 2,567,463,684 are the published sizes of the two UNets."""
    for model, numbers in (("sd15", 859_520_964), ("sdxl", 2_567_463_684)):
        sizes = open_sizes(compose_job(f"model={model}", "data.resolution=64").model)
        with torch.device("meta"):
            unet = sizes.build(torch.bfloat16).module
        assert sum(p.numel() for p in unet.parameters()) == numbers


@pytest.mark.slow
def test_one_member_alone_is_traced_without_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``--fits`` asks of each size and rank; a trace of packs, where one is kept, tells it as well."""
    traced: list[int] = []
    steps = trace._steps

    def counted(sizes: Any, config: JobConfig, attention: Any, batches: Sequence[Sequence[int]]) -> trace.Traced:
        traced.append(len(batches[0]))
        return steps(sizes, config, attention, batches)

    monkeypatch.setattr(trace, "_steps", counted)
    config = compose_job(f"data.cache_dir={tmp_path}", "trainer.precision=bf16-mixed", "lora.target_modules=attention")
    alone = curve_of(config, alone=True)
    assert traced == [1]
    assert not is_known(config), "of packs nothing is known"
    assert curve_of(config, alone=True) == alone
    assert traced == [1]
    whole = curve_of(config)
    assert traced == [1, 1, 2]
    assert whole.copy > alone.copy == 0
    assert whole.needs(3, [optimizer("adamw")]) == alone.needs(3, [optimizer("adamw")])
    assert curve_of(config, alone=True) == whole
    assert len(traced) == 3
