"""Which precision a number of rows runs fastest in on this machine."""

from __future__ import annotations

from bench.measure import Result, Table, arguments, interleave, median, ratio
from bench.toy import Shape, load_denoiser, pack_step
from lora_foundry.config.schema import Precision

ROWS = (1, 2, 4, 8, 16, 32)


def main() -> None:
    """Measure, print, save."""
    options = arguments(__doc__ or "").parse_args()
    rows = ROWS[:4] if options.quick else ROWS
    rounds = options.rounds or (5 if options.quick else 11)
    names: tuple[Precision, ...] = ("32-true", "bf16-mixed")
    denoisers = {name: load_denoiser(name) for name in names}
    calls = {
        f"{name} {n}": pack_step(denoiser, [Shape(batch=1)] * n, f"trainer.precision={name}")
        for n in rows
        for name, denoiser in denoisers.items()
    }
    seconds = interleave(calls, rounds=rounds, warm_up=2)
    table = Table(
        title="A pack's step, batch 1 a member, ms", columns=["rows", "fp32", "bf16", "fp32 / bf16", "faster"]
    )
    for n in rows:
        fp32, bf16 = seconds[f"32-true {n}"], seconds[f"bf16-mixed {n}"]
        times = ratio(fp32, bf16)
        cells = [
            f"{median(fp32) * 1e3:.0f}",
            f"{median(bf16) * 1e3:.0f}",
            f"{times:.2f}",
            "bf16" if times > 1 else "fp32",
        ]
        table.rows.append([str(n), *cells])
    Result(
        name="precision",
        title="Precision by rows",
        how=(
            "`trainer.precision=32-true` against `bf16-mixed` (a bf16 base without autocast, fp32 adapters) on the "
            f"embedded base, in turns for {rounds} rounds. The default is fp32, which is right for single small jobs; "
            "a pack of many rows may choose bf16 by this table."
        ),
        quick=options.quick,
        tables=[table],
    ).save()


if __name__ == "__main__":
    main()
