"""What a job names is looked at before anything is made, in a plan too, and before a sweep goes on."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from lora_foundry.commands import resume
from tests.commands.ran import Command, Ran
from tests.launch.seeds import Seed, seeds
from tests.phrases import BESIDE_THE_STEPS, NOT_STARTED, NOT_WRITABLE
from tests.root import PROJECT_ROOT

LONG = "n" * 300


def _refused(ran: Ran) -> list[str]:
    """The lines, when nothing was made."""
    assert ran.code == 2, ran.err
    assert not ran.sweep_dir.exists()
    head, *lines = ran.err.splitlines()
    assert head == f"{NOT_STARTED}:"
    return [line.removeprefix("  - ") for line in lines]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base of a test's own."""
    return Path(shutil.copytree(PROJECT_ROOT / "assets" / "tiny-sd", tmp_path / "base"))


_FOUND: list[tuple[tuple[str, ...], str]] = [
    (("data.path=nope",), "data.path: nope is missing, allowed is a folder of captioned images"),
    (("data.val_path=nope",), "data.val_path: nope is missing"),
    (("data.path=README.md",), "README.md is a file"),
    (("data.cache_dir=README.md/x",), "data.cache_dir: .*README.md is a file"),
    (("model.path=nope",), "model.path: got 'nope', where there is nothing"),
    (
        ("model.path=conf",),
        "model.path: .*conf is not a Stable Diffusion .*unet/config.json: missing; .*safetensors",
    ),
    (("model.path=README.md",), r"model.path: got 'README.md', a \.md file"),
    (("model.path=assets/tiny-sd/unet/diffusion_pytorch_model.safetensors",), "model.config=null"),
    (("model.stride=24", "data.resolution=48"), "model.stride: got 24, allowed is a multiple of 16"),
    (("lora.init_from=nope.safetensors",), "lora.init_from: .*nope.safetensors"),
    (("lora.init_from=README.md",), "lora.init_from: .*README.md"),
    (("lora.target_modules=[to_x]",), "to_x"),
    (("tracking.uri=http://", "tracking=mlflow"), "tracking.uri: got 'http://'"),
    (("tracking.uri=foo:bar", "tracking=mlflow"), "tracking.uri: got 'foo:bar'"),
    ((f"hydra.sweep.subdir={LONG}",), "hydra.sweep.subdir: .*has 300 bytes, this disk allows 255"),
    ((f"tracking.root=/tmp/{LONG}", "tracking=mlflow"), "tracking.root: .*has 300 bytes"),
    ((f"data.path=/tmp/{LONG}",), "nnn: cannot be read .File name too long"),
    ((f"model.path=/tmp/{LONG}",), "nnn: cannot be read .File name too long"),
    ((f"lora.init_from=/tmp/{LONG}",), "lora.init_from: .*File name too long"),
    ((f"export.copy_to=/tmp/{LONG}",), "export.copy_to: .*has 300 bytes"),
    (("export.copy_to=nope",), "export.copy_to: got 'nope', where there is nothing"),
    ((f"data.cache_dir=/tmp/{LONG}",), "data.cache_dir: .*has 300 bytes"),
]
_WHOEVER_ASKS = [
    case
    for at, case in enumerate(_FOUND)
    if case[0][0].split("=")[0] not in {one[0][0].split("=")[0] for one in _FOUND[:at]}
]
"""The first of each key: a plan looks at all that a sweep does."""


@pytest.mark.parametrize(
    ("words", "told", "plan"),
    [*((*case, ()) for case in _FOUND), *((*case, ("hydra.launcher.plan_only=true",)) for case in _WHOEVER_ASKS)],
)
def test_it_is_one_line_and_nothing_is_made(
    command: Command, words: tuple[str, ...], told: str, plan: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    (line,) = _refused(command(*words, *plan))
    absolute = line.replace(f"{PROJECT_ROOT}/", "")
    assert re.search(told, absolute), line


def test_names_too_long_in_the_sweeps_own_folder(command: Command, tmp_path: Path) -> None:
    ran = command("seed=0", sweep_dir=tmp_path / LONG / "s")
    assert ran.code == 2
    (_, line) = ran.err.splitlines()
    assert "hydra.sweep.dir: " in line
    assert "has 300 bytes, this disk allows 255" in line


def test_everything_is_said_at_once_each_with_its_points(command: Command, photos: Path, base: Path) -> None:
    (photos / "a.txt").write_text("")
    (base / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    lines = _refused(
        command(
            "lora.rank=0,4",
            f"data.path={photos},assets/emoji-flat/train",
            f"model.path={base}",
            "tracking.uri=foo:bar",
            "tracking=mlflow",
            "-m",
        )
    )
    flat = "data.path=assets/emoji-flat/train"
    assert [line.rpartition("): ")[0] or line.partition(": ")[0] for line in lines] == [
        f"point 0 (lora.rank=0 data.path={photos}), point 1 (lora.rank=0 {flat}",
        "tracking.uri",
        f"point 2 (lora.rank=4 data.path={photos}",
        f"point 2 (lora.rank=4 data.path={photos}), point 3 (lora.rank=4 {flat}",
    ]


def test_bad_rows_that_are_skipped_are_no_problem_until_none_is_left(command: Command, photos: Path) -> None:
    (photos / "a.txt").unlink()
    assert "a.png: has no caption" in _refused(command(f"data.path={photos}"))[0]
    assert command(f"data.path={photos}", "data.on_bad=skip", "hydra.launcher.plan_only=true").code == 0
    (photos / "metadata.csv").write_text("filename,prompt\ngone.png,a photo\n")
    assert "data.path: no usable image is left" in _refused(command(f"data.path={photos}", "data.on_bad=skip"))[0]


def test_a_hub_id_is_left_to_the_worker(command: Command) -> None:
    assert command("model.path=somebody/some-model", "hydra.launcher.plan_only=true").code == 0


def test_a_store_of_another_version_is_refused(command: Command, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("CREATE TABLE experiments (name TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('0584bdc529eb')")
        database.commit()
    (line,) = _refused(command("tracking=mlflow", f"tracking.root={tmp_path}"))
    assert line.startswith(f"tracking.root: {tmp_path}/mlflow.db is of an older MLflow (schema 0584bdc529eb")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 KiB, where one may be mounted; else a folder on one that is full by nature."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = str(shutil.which("mount")), str(shutil.which("umount"))
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=16k", "none", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        yield Path("/sys/fs")
        return
    yield folder
    subprocess.run([umount, str(folder)], check=True)


def test_a_full_disk_is_found_before_anything_is_made(command: Command, small_disk: Path) -> None:
    ran = command("seed=0,1", "-m", sweep_dir=small_disk / "s")
    (line,) = _refused(ran)
    assert line.startswith(f"hydra.sweep.dir: {small_disk}/s ")
    assert re.search("16 KiB free, at least .* needed for records.* of 2 jobs", line) or NOT_WRITABLE in line
    assert list(small_disk.iterdir()) == [] or small_disk == Path("/sys/fs")


def test_a_full_disk_has_no_room_for_a_new_database(command: Command, small_disk: Path) -> None:
    (line,) = _refused(command("tracking=mlflow", f"tracking.root={small_disk}/ml"))
    assert line.startswith(f"tracking.root: {small_disk}/ml {NOT_WRITABLE} (")


def test_where_runs_go_is_taken_from_the_environment_shown_and_kept(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "foo:bar")
    (line,) = _refused(command("tracking=mlflow"))
    assert line.startswith("tracking.uri (MLFLOW_TRACKING_URI): got 'foo:bar'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "anna")
    monkeypatch.setattr("lora_foundry.tracking.writer.SweepWriter.patience_s", 0.1)
    for words in (("hydra.launcher.plan_only=true",), ("seed=0",)):
        out = command("tracking=mlflow", *words).out
        assert "runs are recorded in http://127.0.0.1:9 (MLFLOW_TRACKING_URI)" in out
        assert "runs go to the experiment 'anna' (MLFLOW_EXPERIMENT_NAME)" in out
    stored = OmegaConf.load(tmp_path / "sweep" / "0" / ".hydra" / "config.yaml").tracking
    assert (stored.uri, stored.experiment) == ("http://127.0.0.1:9", "anna")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    (tmp_path / "sweep" / "results.json").unlink()
    resume.main([str(tmp_path / "sweep")])
    track = json.loads((tmp_path / "sweep" / "tracking.json").read_text())
    assert (track["uri"], track["experiment"]) == ("http://127.0.0.1:9", "anna"), "a resume records in the same place"


def test_what_the_environment_names_in_vain_is_warned_of_and_a_tag(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("lora_foundry.tracking.writer.SweepWriter.patience_s", 0.1)
    assert "warning: MLFLOW_RUN_ID=abc is not used: " in command("tracking=mlflow").out
    track = json.loads((tmp_path / "sweep" / "tracking.json").read_text())
    assert "MLFLOW_RUN_ID=abc" in track["jobs"]["0"]["warnings"]["warning.mlflow"]


def test_a_sweep_does_not_go_on_without_its_base_or_into_a_store_of_another_version(
    command: Command, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = command(seeds(Seed.DIVERGES), f"model.path={base}").sweep_dir
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "away")
    capsys.readouterr()
    assert resume.main([str(sweep)], failed=True) == 2
    assert f"model.path: {base} is not a Stable Diffusion" in capsys.readouterr().err
    ran = command(f"resume={sweep}/0", sweep_dir=None)
    assert ran.code == 2
    (tmp_path / "away").rename(weights)
    assert resume.main([str(sweep)], failed=True) == 1, "it fails by its seed again"


_PROBE = """
import sys
sys.argv = ["train.py", *sys.argv[1:]]
from lora_foundry.commands.train import main
assert main() == 2
print(sorted({"torch", "mlflow", "PIL", "transformers", "diffusers"} & set(sys.modules)))
"""


def test_looking_imports_nothing_heavy(base: Path, tmp_path: Path) -> None:
    (base / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    words = [f"model.path={base}", "lora.init_from=nope.safetensors", f"tracking.root={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *words], capture_output=True, text=True, cwd=PROJECT_ROOT, check=True
    )
    assert done.stdout.strip() == "[]"
    assert len(done.stderr.splitlines()) == 3


def test_a_plan_warns_of_what_its_data_will_be_warned_of(command: Command, tmp_path: Path) -> None:
    """A worker says it of the images that it checks; somebody who only plans would never see it."""
    photos = tmp_path / "10_anna woman"
    photos.mkdir()
    for number in range(4):
        Image.new("RGB", (64, 64), (number, 90, 0)).save(photos / f"{number}.png")
        (photos / f"{number}.txt").write_text("a photo")
    words = ("data=folder", f"data.path='{photos}'", "lora.rank=4,8", "hydra.launcher.plan_only=true", "-m")
    plan = command(*words, "trainer.epochs=1", "scheduler.warmup_steps=500")
    assert plan.code == 0, plan.err
    assert "warning: data.path: images count as often as their folder's name says (10_anna woman: 4 x 10)" in plan.out
    assert "warning: scheduler.warmup_steps=500 with 8 optimizer steps in all" in plan.out
    assert BESIDE_THE_STEPS in plan.out
    quiet = command(*words, "trainer.epochs=1", "data.repeats=none")
    assert "warning" not in quiet.out
