"""What a pack took is told apart by what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch

from lora_foundry.config.doing import Doing
from lora_foundry.tasks.denoising import Denoising
from lora_foundry.training import module
from lora_foundry.training import peaks as module_of_peaks
from lora_foundry.training.callbacks import checkpointing, exporting, showing
from lora_foundry.training.peaks import Peaks
from lora_foundry.training.validation import Validator
from tests.training.fake_cuda import CARD, GIB, FakeCuda
from tests.training.world import Spec, train

CPU = torch.device("cpu")
OF_A_PACK: tuple[Doing, ...] = tuple(doing for doing in get_args(Doing) if doing != "encoding")


class Told(Peaks):
    """Says what is under way."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.now: Doing | None = None

    @contextmanager
    def during(self, doing: Doing) -> Iterator[None]:
        self.now = doing
        with super().during(doing):
            yield
        self.now = None


def test_what_drawing_takes_on_a_card_is_not_said_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    cuda.allocate(7 * GIB)  # before the training
    cuda.allocate(GIB)
    peaks = Peaks(CARD)
    done: tuple[tuple[Doing, int], ...] = (("step", 2), ("drawing", 5), ("step", 3), ("validation", 1))
    for doing, most in done:
        with peaks.during(doing):
            cuda.allocate(most * GIB)
            cuda.allocate(GIB)
        cuda.allocate(6 * GIB)  # between two of them
        cuda.allocate(GIB)
    assert {doing: peaks.of(doing) for doing in OF_A_PACK} == {
        "step": 3 * GIB, "drawing": 5 * GIB, "validation": GIB, "exporting": None, "saving": None
    }  # fmt: skip
    assert peaks.highest_gib == 6
    assert peaks.beside == 0


def test_what_drawing_takes_of_a_host_is_not_said_of_a_step() -> None:
    peaks = Peaks(CPU)
    with peaks.during("drawing"):
        drawn = torch.ones(24 * 2**20)
        large = drawn.nbytes
        del drawn  # in there, as drawings are: the heap is trimmed behind it
    with peaks.during("step"):
        pass
    drawing, step = peaks.of("drawing"), peaks.of("step")
    assert drawing is not None
    assert step is not None
    assert drawing - step > large / 2
    assert drawing - peaks.beside > large / 2
    assert peaks.highest_gib >= drawing / GIB


def test_the_heap_is_trimmed_behind_what_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's heap keeps what is freed; a step that follows would begin at its height."""
    trimmed: list[str] = []
    monkeypatch.setattr(module_of_peaks, "trim_heap", lambda: trimmed.append(now))
    now = "before"
    told = Peaks(CPU)
    for now in OF_A_PACK:
        with told.during(now):
            pass
    assert trimmed == ["before", *(doing for doing in OF_A_PACK if doing != "step")]


def test_where_no_peak_can_be_begun_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path, text: str) -> None:
        raise PermissionError(13, f"{path}: no {text}")

    monkeypatch.setattr(Path, "write_text", forbidden)
    peaks = Peaks(CPU)
    with peaks.during("step"):
        pass
    assert peaks.of("step") is None
    assert peaks.highest_gib > 0


@pytest.mark.slow
def test_whatever_a_pack_does_has_a_peak_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    peaks, seen = Told(), dict[str, set[Doing | None]]()

    def spied(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.setdefault(name, set()).add(peaks.now)
            return real(*args, **kwargs)

        return call

    for owner, name in (
        (module, "run_step"),
        (Validator, "score"),
        (exporting, "live_outputs"),
        (exporting, "export"),
        (checkpointing, "save_member"),
    ):
        monkeypatch.setattr(owner, name, spied(name, getattr(owner, name)))
    monkeypatch.setattr(showing, "give_back", spied("give_back", showing.give_back))
    show = spied("show", lambda members: {member.name: [] for member in members})
    monkeypatch.setattr(Denoising, "shows", lambda *_: True)
    monkeypatch.setattr(Denoising, "showing", lambda *_: SimpleNamespace(show=show, measured=dict))
    train([Spec("one", ("trainer.max_steps=3",))], tmp_path, peaks=peaks)
    assert seen == {
        "run_step": {"step"},
        "score": {"validation"},
        "show": {"drawing"},
        "give_back": {None},
        "live_outputs": {"exporting"},
        "export": {"exporting"},
        "save_member": {"saving"},
    }
    assert all(peaks.of(doing) for doing in OF_A_PACK)
