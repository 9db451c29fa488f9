"""An experiment is a file: the project's, or one of the user's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_foundry.commands import predict
from tests.commands.ran import Command

MINE = """# @package _global_
defaults:
  - override /data: emoji-flat
  - override /optimizer: mine
  - _self_
lora:
  rank: 3
trainer:
  max_steps: 7
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of one's own configs, with a name as people give them."""
    folder = tmp_path / "my configs (é)"
    for group, name, text in (
        ("experiment", "mine", MINE),
        ("optimizer", "mine", "defaults:\n  - adamw\n  - _self_\nlr: 0.25\n"),
        ("sweep", "both", "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {lora.rank: '3,5'}}}\n"),
    ):
        (folder / group).mkdir(parents=True)
        (folder / group / f"{name}.yaml").write_text(text)
    return folder


def config_of(sweep_dir: Path) -> str:
    return (sweep_dir / "0" / ".hydra" / "config.yaml").read_text()


def test_an_experiment_of_the_project_is_named(command: Command) -> None:
    ran = command("experiment=my_style", "lora.rank=5")
    assert ran.code == 0, ran.err
    assert ran.states() == {"my-style-rank5": "FINISHED"}
    assert "max_steps: 200" in config_of(ran.sweep_dir)


def test_a_wrong_experiment_is_an_error_with_the_choices(command: Command) -> None:
    ran = command("experiment=my_stile")
    assert ran.code == 2
    assert "experiment: got 'my_stile', allowed is one of my_style, sd15_photos; did you mean 'my_style'?" in ran.err


@pytest.mark.parametrize("given", ["flag", "variable", "both"])
def test_ones_own_folder_of_configs_is_a_flag_or_a_variable(
    command: Command, own: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given != "flag":
        monkeypatch.setenv("LORA_FOUNDRY_CONFIG_DIR", str(own))
    flags = [] if given == "variable" else ["--config-dir", str(own)]
    ran = command("experiment=mine", *flags)
    assert ran.code == 0, ran.err
    assert ran.states() == {"flat-rank3": "FINISHED"}
    assert "lr: 0.25" in config_of(ran.sweep_dir)


def test_named_sweeps_and_several_experiments_may_lie_there(
    command: Command, own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LORA_FOUNDRY_CONFIG_DIR", str(own))
    assert command("sweep=both").states() == {"duotone-rank3": "FINISHED", "duotone-rank5": "FINISHED"}
    ran = command("experiment=mine,my_style", "-m", sweep_dir=tmp_path / "other")
    assert ran.states() == {"flat-rank3-mine": "FINISHED", "my-style-rank8-my_style": "FINISHED"}


def test_a_variable_that_names_no_folder_is_refused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORA_FOUNDRY_CONFIG_DIR", str(tmp_path / "nowhere"))
    ran = command("lora.rank=4")
    assert ran.code == 2
    assert f"{tmp_path}/nowhere (LORA_FOUNDRY_CONFIG_DIR): no such folder of configs" in ran.err
    assert not ran.sweep_dir.exists()
    monkeypatch.setattr("sys.argv", ["predict", "lora.rank=4"])
    assert predict.main() == 2
    assert "LORA_FOUNDRY_CONFIG_DIR" in capsys.readouterr().err
