"""``python -m src.doctor``: what a person and a program read, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora_foundry.commands import doctor
from lora_foundry.launch.machines import asking
from lora_foundry.launch.machines.devices import DRIVERS, Driver, Gpu
from lora_foundry.wire.cards import ANSWERS, TorchCard, TorchSays
from tests.phrases import DRIVER_HANGS
from tests.root import PROJECT_ROOT

GIB = 2**30
UUID = "GPU-aaaa1111-2222-3333-4444-555566667777"
SEEN = TorchCard(name="RTX 4090", total=24 * GIB, free=20 * GIB, capability=(8, 9), architecture=None, problem=None)
CARD = Gpu(index=0, uuid=UUID, name="NVIDIA GeForce RTX 4090", capability=(8, 9), total=24 * GIB, free=20 * GIB)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, on a machine without a card, whose torch answers at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("lora_foundry.doctor.places._hub", lambda: tmp_path / "hub")
    monkeypatch.setattr("lora_foundry.doctor.devices.plugged_in", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _answers(
        monkeypatch,
        Driver(problem="NVML Shared Library Not Found"),
        TorchSays(version="2.13.0", cuda=None, hip=None, cards=(), problem="Torch not compiled with CUDA enabled"),
    )


def _answers(monkeypatch: pytest.MonkeyPatch, driver: Driver, torch: TorchSays) -> None:
    for name, line in (("ASK_DRIVER", DRIVERS.written(driver)), ("ASK", ANSWERS.written(torch))):
        monkeypatch.setattr(asking, name, ("/bin/echo", line.decode().rstrip()))


def test_a_machine_without_a_card_is_fine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert doctor.main([]) == 0
    said = capsys.readouterr().out
    assert "Training works here: on CPU." in said
    for head in ("torch", "driver", "CPU", "MLflow", "disk", "cache"):
        assert f"\n{head} " in said
    assert max(len(line.rstrip()) for line in said.splitlines()) <= 80


def test_a_card_that_torch_cannot_use_ends_with_1_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``shared/cases/nvml-shows-torch-does-not``, with the CPU build that tests run on, or with an old driver."""
    problem = "The NVIDIA driver on your system is too old (found version 12040)."
    _answers(
        monkeypatch,
        Driver(version="550.54", cuda=(12, 4), cards=(CARD,)),
        TorchSays(version="2.13.0", cuda="13.0", hip=None, cards=(), problem=problem),
    )
    assert doctor.main(["--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["works"] is False
    assert told["wrong"][0].startswith("trainer.accelerator: got auto, but the driver ")
    assert told["trains_on"] == []
    (card, cpu) = told["devices"]
    assert (card["name"], card["uuid"], card["precision"], cpu["name"]) == ("GPU 0", UUID, "bf16-mixed", "CPU")
    assert doctor.main(["trainer.accelerator=cpu"]) == 0
    monkeypatch.setenv("COLUMNS", "120")
    assert doctor.main([]) == 1
    said = capsys.readouterr().out
    assert "Training does not work here:" in said
    assert "RTX 4090, 20.0 of 24.0 GiB free, compute capability 8.9, trains best in bf16-mixed" in said


def test_the_launchers_settings_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--json", "hydra.launcher.devices=[3]"]) == 1
    (line,) = json.loads(capsys.readouterr().out)["wrong"]
    assert line.startswith("hydra.launcher.devices: got [3], which are GPUs, but ")
    assert doctor.main(["hydra.launcher.reserve=2"]) == 2
    assert "hydra.launcher.reserve: got 2" in capsys.readouterr().err


def test_a_card_that_computes_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lora_foundry.doctor.devices.torch_build", lambda: asking.TorchBuild(version="2.13.0+cu130", cuda="13.0")
    )
    torch = TorchSays(version="2.13.0", cuda="13.0", hip=None, cards=(SEEN,), problem=None)
    _answers(monkeypatch, Driver(version="580.95", cuda=(13, 0), cards=(CARD,)), torch)
    assert doctor.main([]) == 0
    said = capsys.readouterr().out
    assert "580.95, runs CUDA up to 13.0" in said
    assert "Training works here: on GPU 0." in said


def test_whatever_hangs_is_not_waited_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASK", "ASK_DRIVER"):
        monkeypatch.setattr(asking, name, (sys.executable, "-c", "import time; time.sleep(60)"))
    for name in ("_TORCHS_PATIENCE_S", "_DRIVERS_PATIENCE_S"):
        monkeypatch.setattr(f"lora_foundry.doctor.devices.{name}", 0.1)
    assert doctor.main(["--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["driver"]["problem"] == "the driver did not answer within 0.1 s"
    assert DRIVER_HANGS in told["wrong"][0]


def test_a_store_and_a_folder_that_cannot_be_written_are_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "multirun").write_text("a file")
    (tmp_path / "mlruns").write_text("a file")
    (tmp_path / "cache").write_text("a file")
    assert doctor.main(["--json", "data.cache_dir=cache"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [line.partition(":")[0] for line in told["wrong"]] == ["hydra.sweep.dir", "tracking.root", "data.cache_dir"]
    assert told["store"]["reached"] is False


def test_a_server_that_is_away_is_worth_knowing(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--json", "tracking.uri=http://me:secret@127.0.0.1:9"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["store"]["address"] == "http://me:***@127.0.0.1:9"
    assert told["store"]["reached"] is False
    assert "a training goes on" in told["notes"][0]
    assert doctor.main(["--json", "tracking=none"]) == 0
    assert json.loads(capsys.readouterr().out)["store"]["address"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [(("lora.rnk=4",), "did you mean 'lora.rank'"), (("lora.rank=4,8",), "got 2 points, allowed is one")],
)
def test_wrong_words_end_with_2(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([*words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_as_a_person_runs_it_torch_is_asked_and_not_imported() -> None:
    code = (
        "import sys; from lora_foundry.commands.doctor import main; code = main(['--json'])\n"
        "heavy = {'torch', 'mlflow', 'lightning', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode in (0, 1), done.stderr
    told = json.loads(done.stdout)
    assert told["torch"]["imported"]
    assert (done.returncode == 0) == told["works"]
