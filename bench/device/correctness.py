"""Whether a pack on the card trains what it trains on the CPU, and what its members would train alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from bench.device.stage import Stage
from bench.toy import Shape, make_member, random_data
from lora_foundry.config.compose import compose_job
from lora_foundry.config.schema import Precision
from lora_foundry.lora.dropout import Dropout, DropoutKey
from lora_foundry.models.opening import open_base
from lora_foundry.tasks.denoising import Denoising
from lora_foundry.training.pack import Pack
from lora_foundry.training.pack_step import run_step
from lora_foundry.training.precision import DTYPES, computing

_SHAPES = ((0, Shape(batch=1, rank=4)), (1, Shape(batch=2, rank=8)), (2, Shape(batch=4, rank=16)), (3, Shape(batch=1)))
_COARSE: tuple[Precision, ...] = ("32-true", "16-mixed", "bf16-mixed")
_EXACT = 1e-9  # of whole trajectories in 64 bit: rounding is far below, a wrong computation far above
# Diffusers embeds timesteps in 32 bits whatever the base has, and a card's sine is up to 6e-5 from its host's.
_ACROSS = 1e-5
_DROPOUT = "lora.dropout=0.1"
_BITWISE = 1e-300
_INPUTS = ((4096, 320), (77, 769), (640, 33, 31))
_REPEATS = "trainer.deterministic=true"
_CHECKPOINTING = "trainer.gradient_checkpointing=true"

Adapters = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How much is trained: steps, members by number, and which layers of the base."""

    steps: int
    shapes: tuple[tuple[int, Shape], ...]
    targets: str


_FULL = Extent(steps=3, shapes=_SHAPES, targets="all-blocks")
_SMALL = Extent(steps=1, shapes=_SHAPES[:2], targets="[to_q,ff.net.2,conv1]")  # of each kind of layer


def correctness(stage: Stage) -> None:
    """Trajectories of four members that differ, compared as whole adapters."""
    extent = _SMALL if stage.small else _FULL
    table = stage.table(
        f"Correctness on the embedded base, {extent.steps} steps", "what", "relative distance", "wanted"
    )
    cpu, card = torch.device("cpu"), stage.device
    train, alone = partial(trained, extent=extent), partial(_alone, extent=extent)
    packed = train(card, "64-true")

    def compare(what: str, one: Adapters, other: Adapters, limit: float | None) -> None:
        distance = apart(one, other)
        stage.row(table, what, f"{distance:.1e}", "" if limit is None else f"under {limit:g}")
        if limit is not None:
            stage.claim(what, f"{distance:.1e}", f"under {limit:g}", holds=distance < limit)

    if not stage.small:
        compare("fp64: card against CPU", packed, train(cpu, "64-true"), _ACROSS)
    compare("fp64: pack against solo", packed, alone(card, "64-true"), _EXACT)
    compare("fp64: forwards of two rows against one", train(card, "64-true", rows=2), packed, _EXACT)
    compare("fp64: checkpointed against not", train(card, "64-true", _CHECKPOINTING), packed, _EXACT)
    dropped = train(card, "64-true", _DROPOUT)
    compare("fp64, dropout: pack against solo", dropped, alone(card, "64-true", _DROPOUT), _EXACT)
    if not stage.small:
        compare("fp64, dropout: card against CPU", dropped, train(cpu, "64-true", _DROPOUT), _ACROSS)
        differing = sum(int((one != other).sum()) for one, other in zip(masks(card), masks(cpu), strict=True))
        stage.row(table, "inputs that dropout drops on one device alone", str(differing), "none")
        stage.claim("dropout: masks of card and CPU", f"{differing} differ", "none", holds=differing == 0)
    for precision in _COARSE[:1] if stage.small else _COARSE:
        here = train(card, precision)
        compare(f"{precision}: pack against solo", here, alone(card, precision), None)
        compare(f"{precision}: twice the same (0 is bitwise)", here, train(card, precision), None)
        one, other = (train(card, precision, _REPEATS) for _ in range(2))
        compare(f"{precision}, deterministic: twice the same", one, other, _BITWISE)


def trained(
    device: torch.device,
    precision: Precision,
    *overrides: str,
    extent: Extent,
    rows: int | None = None,
) -> Adapters:
    """Each member's adapter after some steps, as one vector."""
    base = open_base(compose_job().model).load_denoiser(dtype=DTYPES[precision].base, device=device)
    if _CHECKPOINTING in overrides:
        base.set_gradient_checkpointing(enabled=True)
    data = random_data(base)
    asked = (f"trainer.precision={precision}", "optimizer.lr=1e-3", f"lora.target_modules={extent.targets}", *overrides)
    pack = Pack(Denoising(base), [make_member(number, shape, data, *asked) for number, shape in extent.shapes])
    pack.rows = rows
    with computing(pack.members[0].config.trainer, device):
        for _ in range(extent.steps):
            failed = run_step(pack).failed
            if failed:
                raise RuntimeError(failed[0].error)
    adapters = {m.name: torch.cat([t.flatten() for t in pack.bank.state(m.name).values()]) for m in pack.members}
    adapters = {name: adapter.double().cpu() for name, adapter in adapters.items()}
    pack.close()
    return adapters


def masks(device: torch.device) -> list[Tensor]:
    """What some rows of two layers keep, drawn on ``device``; of an odd number of inputs, too. On the CPU."""
    keys = [DropoutKey(seed=seed, ordinal=seed * 10**6, probability=0.1 + 0.2 * seed) for seed in range(4)]
    drawn = Dropout(["down", "up"], device).begin(keys)
    kept = [
        drawn.keep(layer, torch.empty(len(keys), *rest, device=device)) for layer in ("down", "up") for rest in _INPUTS
    ]
    return [one.cpu() for one in kept]


def apart(one: Adapters, other: Adapters) -> float:
    """The largest distance of two adapters of a name, over the second's norm."""
    return max(float((one[name] - other[name]).norm() / other[name].norm()) for name in one)


def _alone(device: torch.device, precision: Precision, *overrides: str, extent: Extent) -> Adapters:
    found: Adapters = {}
    for shape in extent.shapes:
        found |= trained(device, precision, *overrides, extent=replace(extent, shapes=(shape,)))
    return found
