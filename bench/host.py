"""How many kernels a step of Stable Diffusion 1.5's real size asks of its host, counted without computing any.

A card is kept waiting where its host cannot hand it kernels as quickly as it computes them, so their number is what a
step costs at small batches, whatever the card.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from bench.measure import Claim, Result, Table, arguments
from lora_foundry.config.compose import compose_job
from lora_foundry.lora.inject import inject
from lora_foundry.memory.tally import Tally
from lora_foundry.memory.trace import GRAIN, META, attention_by, placeholder, run_once, zeros
from lora_foundry.memory.work import Work
from lora_foundry.models.opening import open_sizes
from lora_foundry.tasks.denoising import Denoising
from lora_foundry.training.pack import Pack, adapter_spec
from lora_foundry.training.precision import DTYPES

_BASE = ("model=sd15", "data.resolution=512", "trainer.precision=bf16-mixed", "lora.rank=8", "lora.alpha=1x")
_SHOWN = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A step.

    Attributes:
        targets: ``lora.target_modules``.
        members: Jobs.
        batch: Rows of each.
        limit: Most kernels; None where nobody asked.
        words: What else is set.
    """

    targets: str
    members: int
    batch: int
    limit: int | None = None
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return " ".join((self.targets, f"K={self.members} b={self.batch}", *self.words))


CASES = (
    Case(targets="attention", members=1, batch=1, limit=2300),
    Case(targets="attention", members=8, batch=4, limit=4500, words=("lora.dropout=0.1",)),
    Case(targets="all", members=1, batch=1, limit=4000),
    Case(targets="attention", members=8, batch=1),
)
_QUICK = 1


class _Named(Work):
    """Counts kernels by the name of their operation, too."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def see(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:  # noqa: ANN401
        before = self.ops
        super().see(func, args, kwargs, result)
        self.names[func.overloadpacket.__name__] += self.ops - before


def kernels(case: Case, *base: str) -> Counter[str]:
    """Of the forward and the backward pass, by operation.

    Args:
        case: The step.
        base: What is trained on; by default Stable Diffusion 1.5 at 512 px in bf16.
    """
    told = (f"lora.target_modules={case.targets}", f"data.batch_size={case.batch}", *case.words)
    config = compose_job(*(base or _BASE), *told)
    sizes = open_sizes(config.model)
    denoiser = sizes.build(DTYPES[config.trainer.precision].base)
    members = [placeholder(config, number) for number in range(case.members)]
    for member in members:
        inject(denoiser.components, member.name, adapter_spec(member, denoiser))
    for network in denoiser.components.values():
        network.to(META)
    work = _Named()
    with META, attention_by("fused"):
        pack = Pack(Denoising(denoiser), members, injected=True)
        with Tally(grain=GRAIN, work=work):
            run_once(pack, zeros(pack, sizes, [case.batch] * case.members))
    return work.names


def main() -> None:
    """Count, print, save."""
    options = arguments(__doc__ or "").parse_args()
    cases = CASES[:_QUICK] if options.quick else CASES
    result = Result(
        name="host",
        title="Kernels of a step",
        how=(
            "Forward and backward pass of rank 8 on Stable Diffusion 1.5's real size, 512 px and bf16, on tensors with "
            "shapes and no content. Views and bare allocations are no kernels."
        ),
        quick=options.quick,
    )
    table = Table(title="Kernels", columns=["step", "kernels", "of them"])
    for case in cases:
        found = kernels(case)
        total = found.total()
        most = ", ".join(f"{name} {number}" for name, number in found.most_common(_SHOWN))
        table.rows.append([case.name, f"{total:,}", most])
        if case.limit is not None:
            limit = f"at most {case.limit:,}"
            result.claims.append(
                Claim(what=f"kernels of {case.name}", measured=f"{total:,}", limit=limit, holds=total <= case.limit)
            )
    result.tables.append(table)
    result.save()


if __name__ == "__main__":
    main()
