"""A pack's step against a plain step of one adapter with the same rows, and against training alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.measure import Claim, Result, Table, arguments, interleave, median, ratio
from bench.toy import PlainStep, Shape, load_denoiser, pack_step

SIZES, BATCHES, RANKS = (1, 2, 4, 8, 16), (1, 2, 4), (4, 8, 16)
LIMIT, LIMIT_MIXED_RANKS, LIMIT_MIXED_BATCH, LIMIT_GAIN = 1.05, 1.10, 1.10, 2.5
GAIN_AT = "K=8 b=1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A pack to be timed.

    Attributes:
        name: As it stands in the table.
        shapes: Its members.
        limit: Most times a plain step.
        solo: The case of the same batch with one member, if there is one.
    """

    name: str
    shapes: tuple[Shape, ...]
    limit: float
    solo: str | None = None

    @property
    def rows(self) -> int:
        """Rows of the joined batch."""
        return sum(shape.batch for shape in self.shapes)


def cases_of(batch: int, sizes: tuple[int, ...]) -> list[Case]:
    """Equal ranks at every size, then mixed ranks."""
    solo = f"K=1 b={batch}"
    cases = [Case(name=f"K={k} b={batch}", shapes=(Shape(batch=batch),) * k, limit=LIMIT, solo=solo) for k in sizes]
    for size in (k for k in sizes if k >= len(RANKS)):
        shapes = tuple(Shape(batch=batch, rank=RANKS[i % len(RANKS)]) for i in range(size))
        cases.append(Case(name=f"K={size} b={batch} ranks 4,8,16", shapes=shapes, limit=LIMIT_MIXED_RANKS, solo=solo))
    return cases


def mixed_batches(sizes: tuple[int, ...]) -> list[Case]:
    """Members of batch 1, 2 and 4 in turn."""
    made = []
    for size in sizes:
        shapes = tuple(Shape(batch=BATCHES[i % len(BATCHES)]) for i in range(size))
        made.append(Case(name=f"K={size} b=1,2,4", shapes=shapes, limit=LIMIT_MIXED_BATCH))
    return made


def time_group(cases: list[Case], *, target_modules: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each case's pack step under its name, and of the plain step under ``plain <rows>``."""
    denoiser = load_denoiser()
    override = f"lora.target_modules={target_modules}"
    plain = PlainStep(denoiser, target_modules=target_modules)
    calls: dict[str, Callable[[], object]] = {}
    for case in cases:
        calls[case.name] = pack_step(denoiser, case.shapes, override)
        calls[f"plain {case.rows}"] = partial(plain, case.rows)
    return interleave(calls, rounds=rounds, warm_up=2)


def report(result: Result, title: str, cases: list[Case], seconds: dict[str, list[float]]) -> None:
    """One table, and a claim a case."""
    columns = ["pack", "rows", "plain ms", "pack ms", "pack / plain", "gain a member over solo"]
    table = Table(title=title, columns=columns)
    for case in cases:
        pack, plain = seconds[case.name], seconds[f"plain {case.rows}"]
        over = ratio(pack, plain)
        gain = len(case.shapes) * ratio(seconds[case.solo], pack) if case.solo else None
        cells = [
            f"{median(plain) * 1e3:.0f}",
            f"{median(pack) * 1e3:.0f}",
            f"{over:.2f}",
            f"{gain:.1f}x" if gain else "",
        ]
        table.rows.append([case.name, str(case.rows), *cells])
        limit = f"at most {case.limit:.2f}x"
        result.claims.append(
            Claim(what=f"step of {case.name}", measured=f"{over:.2f}x plain", limit=limit, holds=over <= case.limit)
        )
        if case.name == GAIN_AT and gain:
            what, measured = f"member-steps of {GAIN_AT} over solo", f"{gain:.1f}x"
            result.claims.append(
                Claim(what=what, measured=measured, limit=f"at least {LIMIT_GAIN}x", holds=gain >= LIMIT_GAIN)
            )
    result.tables.append(table)


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--targets", default="attention-mlp", help="lora.target_modules of both sides")
    options = parser.parse_args()
    sizes, batches = ((1, 4, 8), (1,)) if options.quick else (SIZES, BATCHES)
    rounds = options.rounds or (5 if options.quick else 11)
    result = Result(
        name="step",
        title="The pack's step",
        how=(
            "A whole step (draws, forward, backward, clipping, AdamW) on the embedded base in fp32, rank 8 on "
            f"`{options.targets}` unless ranks are given. Plain is one PEFT LoRA of rank 8 with torch's clipping and "
            "AdamW and the same number of rows, on cached latents and text states too. All cases of a batch size take "
            f"turns for {rounds} rounds; ratios are medians of the ratios round by round."
        ),
        quick=options.quick,
    )
    for batch in batches:
        cases = cases_of(batch, sizes)
        seconds = time_group(cases, target_modules=options.targets, rounds=rounds)
        report(result, f"Batch {batch} a member", cases, seconds)
    mixed = mixed_batches((3,) if options.quick else (3, 8, 16))
    seconds = time_group(mixed, target_modules=options.targets, rounds=rounds)
    report(result, "Mixed batch sizes", mixed, seconds)
    result.save()


if __name__ == "__main__":
    main()
