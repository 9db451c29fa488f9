"""What ``python -m src.predict`` prints, where steps and pictures take what can be followed by hand."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from rich.console import Console

from lora_foundry.config.doing import most_is_taken, spared_by
from lora_foundry.config.schema import JobConfig
from lora_foundry.memory import between, fits, predict, table
from lora_foundry.memory.between import Pictures
from lora_foundry.memory.fits import Most, most_that_fits
from lora_foundry.memory.libraries import NOTHING, on_card
from lora_foundry.memory.predict import GIB, Curve
from lora_foundry.memory.scratch import Alive
from tests.launch.jobs import job

_MIB = 2**20


def _curve_of(config: JobConfig, *, alone: bool = False) -> Curve:  # noqa: ARG001
    """Base 1 GiB, a member 16 MiB a rank; a row takes 1 GiB at 512 px, an eighth of that where nothing is kept."""
    row = GIB * config.data.resolution**2 // 512**2
    alive = Alive(tensors=row // 8, inside=row // 8)
    return Curve(
        weights=GIB,
        floats=config.lora.rank * _MIB,
        adapter_bytes=4,
        copy=0,
        fixed=0,
        row=row,
        ops=0,
        flops_fixed=0,
        flops_row=0,
        forward=alive,
        guided=alive,
    )


def _pictures_of(config: JobConfig) -> Pictures:
    """A GiB of encoders, half of it decodes; a picture of 512 px takes 2 GiB."""
    size = 2 * GIB * config.data.resolution**2 // 512**2
    alive = Alive(tensors=size, inside=size)
    return Pictures(encoders=GIB, encoding=alive, decoder=GIB // 2, decoding=alive)


@dataclass(frozen=True)
class _Row:
    config: JobConfig
    words: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (predict, between, fits):
        monkeypatch.setattr(room, "curve_of", _curve_of)
    for room in (between, fits):
        monkeypatch.setattr(room, "pictures_of", _pictures_of)
    monkeypatch.setattr(table, "is_known", lambda _: True)
    monkeypatch.setattr(table, "are_known", lambda _: True)


def _job(**values: object) -> JobConfig:
    usual = {"data__resolution": 512, "data__batch_size": 1, "lora__rank": 1, "trainer__precision": "32-true"}
    return job(**usual | values)


def _needs(*configs: JobConfig, members: int = 1, width: int = 140) -> list[str]:
    screen = io.StringIO()
    rows = [_Row(config, (f"lora.target_modules={config.lora.target_modules}",)) for config in configs]
    table.print_needs(rows, members, Console(file=screen, width=width))
    return screen.getvalue().splitlines()


def _fits(gib: float, config: JobConfig, width: int = 140) -> list[str]:
    screen = io.StringIO()
    table.print_fits([_Row(config)], gib, Console(file=screen, width=width))
    return screen.getvalue().splitlines()


def _most(gib: float, config: JobConfig) -> Most:
    return most_that_fits(config, int(gib * GIB), checkpointing=False, beside=NOTHING)


def _starting(lines: Sequence[str], words: str) -> list[str]:
    return [line for line in lines if line.startswith(words)]


def test_the_most_is_told_where_it_is_taken_while_it_draws() -> None:
    card = on_card()
    lines = _needs(_job(), _job(data__batch_size=4))
    assert lines[1].split()[-2:] == ["at", "most"]
    drawing = 1.0 + 4 * 4 / 1024 + 0.5 + 2 * (1 + card.kept_share) + (card.context + card.workspaces) / GIB
    step = 1.0 + 4 * 4 / 1024 + 4 * (1 + card.kept_share) + (card.context + card.workspaces) / GIB
    assert [line.split()[-1] for line in lines[2:4]] == [f"{drawing:.2f}", f"{step:.2f}"], "here of a step"
    assert _starting(lines, "at most") == [f"at most: on a card, {most_is_taken('drawing')}"]


def test_nothing_more_is_told_where_steps_take_the_most() -> None:
    lines = _needs(_job(sample__enabled=False, data__batch_size=4))
    assert lines[1].split()[-1] == "card"
    assert not _starting(lines, "at most")


@pytest.mark.parametrize("members", [1, 16])
def test_nothing_is_cut_off_in_80_columns(members: int) -> None:
    """Neither heads nor numbers, of tens of GiB and whatever is swept."""
    large = {"data__batch_size": 16, "data__resolution": 1024}
    swept = [_job(**large, lora__target_modules=name) for name in ("all", "attention")]
    for lines in (_needs(*swept, members=members, width=80), _fits(64.0, swept[0], width=80)):
        assert max(map(len, lines)) <= 80
        assert not any("\u2026" in line for line in lines)
    whole = " ".join(_needs(*swept, members=members, width=80))
    heads = ("px", "GiB", "base", "adap-", "gradi-", "ents", "opti-", "mizer", "activa-", "tions", "on a", "card")
    assert not [head for head in heads if head not in whole]


def test_what_fits_has_room_to_draw_too() -> None:
    """As asked a step takes 2.02 GiB, drawing 3.52, encoding 3."""
    config = _job()
    stays = 4 * 4 / 1024  # GiB of a member of rank 1
    assert _most(3.5, config) == Most(
        checkpointing=False, batch=0, rank=0, resolution=496, members=0, too_much="drawing"
    )
    assert _most(3.6, config).batch == 2
    assert _most(3.6, config).rank == int((3.6 - 3.5) / stays)
    assert _most(3.6, config).members == 2, "of as many as have rows for a step"
    assert _most(3.52, config).members == 1
    without = _most(3.5, _job(sample__enabled=False))
    assert (without.batch, without.resolution, without.too_much) == (2, 560, None), "encoding ends it at 2.5 GiB"


def test_many_members_are_as_many_as_stay_while_one_draws() -> None:
    """Of rank 16, where each keeps 0.25 GiB and steps of 64 px take 1/64: drawing 1.5 and 1/32."""
    stays = 4 * 16 * 4 / 1024
    most = _most(4.0, _job(data__resolution=64, lora__rank=16)).members
    assert 1.5 + 2 / 64 + most * stays <= 4.0 < 1.5 + 2 / 64 + (most + 1) * stays
    assert 1.0 + (most + 1) * (stays + 1 / 64) <= 4.0, "a step of one more would fit"


def test_it_is_told_where_drawing_is_too_much_for_a_card_that_steps_fit() -> None:
    said = "a step would fit, but it is too much"
    (line,) = _starting(_fits(4.0, _job()), said)
    assert line.endswith(spared_by("drawing"))
    assert not _starting(_fits(8.0, _job()), said)
    assert not _starting(_fits(1.5, _job()), said), "no step either"
