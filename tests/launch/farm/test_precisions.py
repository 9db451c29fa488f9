"""``trainer.precision=auto`` is settled by the devices, once, before the plan, and stays with the job."""

from __future__ import annotations

import sys

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.farm.again import find_again
from lora_foundry.launch.farm.farm import Farm
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.launch.farm.planning import show_plan
from lora_foundry.launch.farm.prepared import kept_precisions
from lora_foundry.launch.machines.engines import local
from lora_foundry.launch.machines.torch_build import TorchBuild
from lora_foundry.launch.points.names import Names
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.launch.records.resume import find_unfinished
from lora_foundry.launch.records.stored_jobs import read_stored_config
from tests.launch.fake_nvml import Card, fake_nvml
from tests.launch.farm.farm_in_memory import FarmInMemory, Farms
from tests.launch.jobs import job, live
from tests.launch.seeds import Seed
from tests.phrases import EMULATED


def _auto(seed: int = 0, **values: object) -> JobConfig:
    return job(**{"seed": int(seed), "tracking__enabled": False, "trainer__precision": "auto", **values})


def _trained(made: FarmInMemory, *configs: JobConfig) -> FarmInMemory:
    made.offer(*configs)
    made.farm.close()
    made.farm.train()
    return made


def _stored(made: FarmInMemory) -> list[str]:
    return [read_stored_config(made.folder / str(n)).trainer.precision for n in range(len(made.states()))]


@pytest.mark.slow
@pytest.mark.parametrize("here", ["bf16-mixed", "16-mixed", "32-true"])
def test_a_job_is_stored_with_what_it_is_computed_in(
    here: str, farm: Farms, capsys: pytest.CaptureFixture[str]
) -> None:
    made = farm()
    made.engine.precision = here  # type: ignore[assignment]
    _trained(made, _auto(0), _auto(1, trainer__precision="64-true"), _auto(2, trainer__accelerator="cpu"))
    assert _stored(made) == [here, "64-true", "32-true"]
    told = capsys.readouterr().out
    assert f"trainer.precision=auto is {here} here" in told


def test_jobs_that_are_offered_later_are_given_what_the_first_were(farm: Farms) -> None:
    made = farm()
    made.engine.precision = "16-mixed"
    made.offer(_auto(0))
    made.farm.drain()
    made.engine.precision = "bf16-mixed"  # another card came: what is compared stays comparable
    _trained(made, _auto(1))
    assert _stored(made) == ["16-mixed", "16-mixed"]


def test_bf16_on_a_card_that_emulates_it_is_warned_of_on_screen_and_run(
    farm: Farms, capsys: pytest.CaptureFixture[str]
) -> None:
    made = farm()
    made.engine.precision = "16-mixed"
    _trained(made, _auto(0, trainer__precision="bf16-mixed"))
    assert _stored(made) == ["bf16-mixed"], "what was asked for"
    assert "warning: trainer.precision=bf16-mixed: not every card here computes bf16" in capsys.readouterr().out
    (entry,) = read_sweep(made.folder).jobs
    assert EMULATED in str(dict(entry.warnings or {})["warning.precision"])


@pytest.mark.parametrize(("capability", "said"), [((7, 5), "16-mixed"), ((8, 6), "bf16-mixed")])
def test_a_plan_shows_it(
    capability: tuple[int, int],
    said: str,
    farm: Farms,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = farm().points(_auto(0))
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml([Card(bus=1, uuid="GPU-1", capability=capability)]))
    monkeypatch.setattr(local, "torch_build", lambda: TorchBuild(version="2.13.0+cu130", cuda="13.0"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    show_plan(points, Settings(plan_only=True, share=True), Outside(finish=lambda *_: None), Names())
    assert f"trainer.precision=auto is {said} here" in capsys.readouterr().out


def test_a_card_that_is_left_out_is_told_in_a_plan_and_when_a_sweep_begins(
    farm: Farms, capsys: pytest.CaptureFixture[str]
) -> None:
    made = farm()
    points = made.points(_auto(0))
    made.engine.left_out = ("GPU 1: GPU is lost; the card is gone",)
    show_plan(points, Settings(plan_only=True, share=True), Outside(finish=lambda *_: None), Names())
    assert "left out: GPU 1: GPU is lost; the card is gone\n" in capsys.readouterr().out
    made.offer(_auto(0))
    made.farm.drain()
    assert capsys.readouterr().out.count("left out: GPU 1: GPU is lost") == 1
    _trained(made, _auto(1))
    assert "left out" not in capsys.readouterr().out, "of jobs that come later it is not said again"


def test_a_resume_elsewhere_goes_on_in_what_the_job_began_with_and_says_so(
    farm: Farms, capsys: pytest.CaptureFixture[str]
) -> None:
    made = farm()
    made.engine.precision = "bf16-mixed"
    made.when(lambda: len(made.told.get(0, ())) > 2, made.farm.stop)
    _trained(made, _auto(Seed.ENDLESS))
    capsys.readouterr()
    made.engine.precision = "32-true"
    resumed = find_unfinished(made.folder, failed=False)
    farm_again = Farm.going_on(resumed, made.settings, Outside(finish=lambda *_: None))
    assert farm_again._jobs[0].record.config.trainer.precision == "bf16-mixed"
    farm_again._greet()
    said = "goes on in bf16-mixed, in which it began; trainer.precision=auto is 32-true here"
    assert said in capsys.readouterr().out.replace("\n", " ")
    farm_again._leave()
    assert farm_again._book is not None
    farm_again._book.journal.close()


def test_nothing_is_said_where_nothing_differs_or_the_user_named_it() -> None:
    def said(here: str, config: JobConfig, **overrides: str) -> list[str]:
        record = live(0, config, name="one").record
        record.overrides.update(overrides)
        return kept_precisions([record], here)  # type: ignore[arg-type]

    assert said("bf16-mixed", job(trainer__precision="bf16-mixed")) == []
    assert said("bf16-mixed", job(trainer__precision="64-true")) == []
    assert said("bf16-mixed", job(trainer__precision="32-true"), **{"trainer.precision": "32-true"}) == []
    assert said("bf16-mixed", job(trainer__precision="32-true", trainer__accelerator="cpu")) == []
    (line,) = said("16-mixed", job(trainer__precision="bf16-mixed"), **{"trainer.precision": "bf16-mixed"})
    assert line.startswith("one: trainer.precision=bf16-mixed: not every card here computes bf16 by itself")


def test_the_same_command_finds_what_another_device_trained(farm: Farms) -> None:
    """Auto asks for no particular precision, so a job that was trained in any is what it asks for."""
    made = farm()
    made.engine.precision = "bf16-mixed"
    made.when(lambda: len(made.told.get(0, ())) > 2, made.farm.stop)
    _trained(made, _auto(Seed.ENDLESS))
    sweeps = [(made.folder, read_sweep(made.folder))]
    (point,) = made.points(_auto(Seed.ENDLESS))
    (other,) = made.points(_auto(Seed.ENDLESS, trainer__precision="32-true"))
    assert find_again([point], sweeps, None, "train").whole is not None
    try:
        assert find_again([other], sweeps, None, "train").whole is None
    except SweepError as error:
        pytest.fail(str(error))


@pytest.mark.parametrize(("repeats", "joins"), [(False, [("pack-0", [0])]), (True, [])])
def test_what_is_to_repeat_itself_is_joined_by_nobody(repeats: bool, joins: list[object], farm: Farms) -> None:
    """Somebody joins at the step at which a clock says so, and rounding depends on who trains together."""
    made = farm(pack_size=2)
    lengths = {0: 4, 1: 40, 2: 20}
    jobs = [
        job(seed=n, trainer__max_steps=steps, trainer__deterministic=repeats, tracking__enabled=False)
        for n, steps in lengths.items()
    ]
    _trained(made, *jobs)
    assert made.states() == ["FINISHED"] * 3
    assert made.sent("join") == joins
