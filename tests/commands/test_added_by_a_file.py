"""What is chosen by a name is added by a file and a YAML: to a copy of the tree, which then trains with all of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors import safe_open

from tests.root import PROJECT_ROOT

ADDED = Path(__file__).with_name("added")
"""A folder a kind, each with what is added, as it lies in the tree."""
KINDS = sorted(folder.name for folder in ADDED.iterdir())
CHOSEN = {
    "optimizer": ("optimizer=sgd", "optimizer.options.momentum=0.5"),
    "schedule": ("scheduler=polynomial", "scheduler.options.power=3"),
    "engine": ("hydra/launcher=marked",),
    "format": ("data=tsv",),
    "metric": ("validation=absolute",),
    "sampler": ("sample=blank",),
}
"""How each is chosen."""
_SHORT = ("tracking=none", "trainer.max_steps=3", "trainer.log_every=1", "trainer.checkpoint_every=1")
_STEPS = 3


def _added(kind: str) -> list[Path]:
    folder = ADDED / kind
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix in (".py", ".yaml"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree's own code and configs with all that is added, and six drawings."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("src", "conf", "sweeps"):
        shutil.copytree(PROJECT_ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "assets").symlink_to(PROJECT_ROOT / "assets")
    for kind in KINDS:
        shutil.copytree(ADDED / kind, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def _run(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "src.train", *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(line, cwd=tree, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained(tree: Path) -> Path:
    """The sweep's folder of one run with all of them."""
    drawings = tree / "drawings"
    drawings.mkdir()
    for number in range(6):
        Image.new("RGB", (64, 64), (40 * number, 90, 200)).save(drawings / f"{number}.png")
    names = [f"{number}.png" for number in range(6)]
    (drawings / "metadata.tsv").write_text("".join(f"{name}\tof the table {name}\n" for name in names))
    data = ("data.path=drawings", "data.name=drawn", "data.resolution=64", "data.batch_size=2")
    sweep = f"hydra.sweep.dir={tree / 'sweep'}"
    done = _run(tree, *data, *_SHORT, sweep, *(word for kind in KINDS for word in CHOSEN[kind]))
    assert done.returncode == 0, done.stdout + done.stderr
    return tree / "sweep"


def _said(sweep: Path, kind: str) -> Iterator[dict[str, Any]]:
    lines = (line for path in (sweep / "spool").iterdir() for line in path.read_text().splitlines())
    return (event for event in map(json.loads, lines) if event["kind"] == kind)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_new_file_and_a_yaml(kind: str) -> None:
    paths = _added(kind)
    assert [path.suffix for path in paths] == [".yaml", ".py"]
    assert not [path for path in paths if (PROJECT_ROOT / path).exists()]


def test_the_optimizer_trained(trained: Path) -> None:
    """Its state is torch's, for every matrix, and what it had of its own is in force."""
    with safe_open(trained / "0/checkpoints" / f"step-{_STEPS:08d}.safetensors", "pt") as held:
        names = [name for name in held.keys() if name.startswith("optimizer/")]  # noqa: SIM118  # it is no mapping
        numbers = json.loads(held.metadata()["optimizer"])
    assert len(names) > 10
    assert {name.partition(".")[2] for name in names} == {"momentum_buffer"}
    assert numbers["groups"][0]["momentum"] == 0.5


def test_the_schedule_set_the_rate(trained: Path) -> None:
    measured = [(event["step"], event["values"]) for event in _said(trained, "metrics")]
    rates = {step: values["train/lr"] for step, values in measured if "train/lr" in values}
    assert rates == pytest.approx({step + 1: 0.1 * (1 - step / _STEPS) ** 3 for step in range(_STEPS)})


def test_the_engine_started_the_worker(trained: Path) -> None:
    (mark,) = trained.glob("marked-*.txt")
    started = [json.loads(line) for line in (trained / "journal.jsonl").read_text().splitlines()]
    assert int(mark.read_text()) in [line.get("pid") for line in started if line["event"] == "worker"]


def test_the_data_format_was_read(trained: Path) -> None:
    """The data's own list, file by file, has the captions of the table."""
    (inventory,) = (trained / "data").iterdir()
    (held,) = json.loads(inventory.read_text())["sets"].values()
    assert held["reading"]["captions"] == "tsv"
    captions = {name: caption for name, (_, caption, _) in held["files"].items()}
    assert captions == {f"{n}.png": hashlib.sha256(f"of the table {n}.png".encode()).hexdigest()[:16] for n in range(6)}


def test_the_metric_is_logged_and_in_the_results(trained: Path) -> None:
    logged = [values for event in _said(trained, "metrics") if "val/loss" in (values := event["values"])]
    assert all(0 < one["val/absolute"] < one["val/loss"] ** 0.5 for one in logged), "by Jensen's inequality"
    (result,) = json.loads((trained / "results.json").read_text())
    assert result["summary"]["val_absolute"] == logged[-1]["val/absolute"]
    assert result["summary"]["val_absolute_rel"] == logged[-1]["val/absolute_rel"]


def test_the_sampler_drew_the_pictures(trained: Path) -> None:
    """Whatever was asked for, of base and adapter."""
    drawn = [(event["prompt"], trained / event["path"]) for event in _said(trained, "image")]
    assert {prompt for prompt, _ in drawn} == {"a drawing", "another one"}
    assert len({path.read_bytes() for _, path in drawn}) == 1


def test_names_rules_and_options_are_known_to_the_command_line(tree: Path) -> None:
    ask = partial(_run, tree)
    assert "did you mean 'sgd'?" in ask("optimizer.name=sgdd").stderr
    assert "allowed is one of local, marked" in ask("hydra.launcher.engine=ray", "tracking=none").stderr
    wrong = ask("optimizer=sgd", "optimizer.lr=2", "scheduler=polynomial", "scheduler.options.power=0", "tracking=none")
    assert "optimizer.lr: got 2 with sgd, allowed is 1 at most" in wrong.stderr
    assert "scheduler.options.power: got 0 (int), allowed is a finite number, more than 0" in wrong.stderr
    several = ("data.captions=tvs", "sample.sampler=blanc", "validation.metrics=[loss,absolut]")
    wrong = ask(*several, "tracking=none")
    assert (
        "data.captions: got 'tvs' (str), allowed is one of auto, csv, files, folder, jsonl, name, prefix, tsv"
        in wrong.stderr
    )
    assert "sample.sampler: got 'blanc' (str), allowed is one of blank, ddim, dpmpp_2m" in wrong.stderr
    assert "validation.metrics: got ['loss', 'absolut'] (list), allowed is a list of any of absolute, " in wrong.stderr
    shown = ask("optimizer=sgd", "--cfg", "job")
    assert "momentum: 0.9" in shown.stdout
