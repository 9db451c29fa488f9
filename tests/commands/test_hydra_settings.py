"""What is said to Hydra, on the command line and in files: obeyed, or refused; never taken and passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode

from lora_foundry.launch.farm.launching import Launching
from lora_foundry.launch.farm.outcome import OUTCOME
from lora_foundry.launch.farm.sweeping import sweep
from tests.commands.ran import Command, Ran
from tests.root import PROJECT_ROOT


class WithFile(Protocol):
    """The ``with_file`` fixture."""

    def __call__(self, text: str, *words: str, name: str = ..., sweep_dir: Path | None = ...) -> Ran: ...


@pytest.fixture
def with_file(command: Command, tmp_path: Path) -> WithFile:
    """``with_file("seed: 3")`` runs ``experiment=mine`` of a folder of configs of one's own."""

    def run(text: str, *words: str, name: str = "experiment/mine", sweep_dir: Path | None = tmp_path / "sweep") -> Ran:
        file = tmp_path / "own" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text if name.startswith("hydra/") else f"# @package _global_\n{text}")
        chosen = [] if name.startswith("hydra/") else ["experiment=mine"]
        return command("--config-dir", str(tmp_path / "own"), *chosen, *words, sweep_dir=sweep_dir)

    return run


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hydra: {launcher: {pack_szie: 1}}", "hydra.launcher.pack_szie: no such key; did you mean"),
        ("hydra: {foo: 1}", "hydra.foo: no such key"),
        ("hydra: {sweep: {dri: x}}", "hydra.sweep.dri: no such key; did you mean 'hydra.sweep.dir'?"),
        ("hydra: {sweeper: {params: {lora.rnk: '4,8'}}}", "hydra.sweeper.params: lora.rnk: no such key"),
        ("hydra: {sweeper: {params: {hydra.launcher.nice: '1'}}}", "hydra.launcher.nice: stands below hydra:"),
        ("hydra: {job: {chdir: true}}", "hydra.job.chdir: got True, but jobs train in the folder"),
        ("hydra: {job: {env_set: {A: b}}}", "hydra.job.env_set: got {'A': 'b'}, but workers have"),
        ("hydra: {output_subdir: conf}", "hydra.output_subdir: got conf, but resuming looks"),
        ("hydra: {callbacks: {mine: {_target_: os.system}}}", "hydra.callbacks: got {'mine': {'_target_'"),
        ("hydra: {launcher: {_target_: os.system}}", "hydra/launcher: got pack (os.system), allowed is pack"),
        ("defaults:\n  - override /hydra/launcher: basic", "override /hydra/launcher: basic is passed over"),
        ("seed: [1", "while parsing a flow sequence"),
        ("seed: 1\n seed: 2", "mapping values are not allowed here"),
        ("- seed", "In 'experiment/mine': Cannot merge DictConfig with ListConfig\n"),
        ("sede: 1", "sede: no such key; did you mean 'seed'?"),
        ("defaults:\n  - nothere", "Could not load 'experiment/nothere'"),
        ("defaults:\n  - override /model: nothere", "Could not find 'model/nothere'; Available options in 'model': "),
    ],
)
def test_what_a_file_says_wrongly_is_a_line(with_file: WithFile, text: str, said: str) -> None:
    ran = with_file(text)
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert ran.err.startswith("Nothing was started:\n  - ")
    assert len(ran.err.splitlines()) == 2, ran.err
    assert not ran.sweep_dir.exists()


def test_a_launcher_of_ones_own_may_be_ours_with_other_settings(with_file: WithFile) -> None:
    ours = "_target_: hydra_plugins.foundry.pack_launcher.PackLauncher\n"
    ran = with_file(
        f"defaults: [pack]\n{ours}pack_size: 1\n", "hydra/launcher=mine", "seed=0,1", "-m", name="hydra/launcher/mine"
    )
    assert ran.code == 0, ran.err
    assert [len(line["jobs"]) for line in ran.commands() if line["cmd"] == "pack"] == [1, 1]


def test_a_launcher_of_ones_own_with_an_unknown_key_or_target_is_refused(with_file: WithFile) -> None:
    ours = "_target_: hydra_plugins.foundry.pack_launcher.PackLauncher\nworker_command: null\n"
    ran = with_file(f"{ours}pack_szie: 1\n", "hydra/launcher=mine", name="hydra/launcher/mine")
    assert ran.code == 2
    assert "hydra.launcher.pack_szie: no such key; did you mean 'hydra.launcher.pack_size'?" in ran.err
    ran = with_file(
        "_target_: hydra._internal.core_plugins.basic_launcher.BasicLauncher\nworker_command: null\n",
        "hydra/launcher=mine",
        name="hydra/launcher/mine",
    )
    assert ran.code == 2
    assert "hydra/launcher: got mine (hydra._internal" in ran.err
    assert not ran.sweep_dir.exists()


@pytest.mark.parametrize("primary", ["hydra/launcher: basic", "hydra/sweeper: basic"])
def test_a_primary_config_that_chooses_others_is_refused(command: Command, tmp_path: Path, primary: str) -> None:
    (tmp_path / "own").mkdir()
    group = primary.split(":", maxsplit=1)[0]
    (tmp_path / "own" / "mine.yaml").write_text(f"defaults:\n  - train\n  - _self_\n  - override {primary}\n")
    ran = command("--config-dir", str(tmp_path / "own"), "--config-name", "mine")
    assert ran.code == 2
    assert f"{group}: got basic" in ran.err or "hydra.launcher.worker_command: no such key" in ran.err
    assert not ran.sweep_dir.exists()


def test_hydra_run_dir_is_where_a_run_without_m_lands(command: Command, tmp_path: Path) -> None:
    ran = command("lora.rank=2", f"hydra.run.dir={tmp_path}/run", sweep_dir=None)
    assert ran.code == 0, ran.err
    assert (tmp_path / "run" / "sweep.json").is_file()
    assert (tmp_path / "run" / "0" / ".hydra" / "config.yaml").is_file()


def test_a_files_run_dir_is_obeyed_and_its_sweeps_go_elsewhere(with_file: WithFile, tmp_path: Path) -> None:
    text = f"hydra: {{run: {{dir: '{tmp_path}/runs/${{now:%Y}}-${{sweep_id:}}'}}}}"
    assert with_file(text, sweep_dir=None).code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("20")
    assert (folder / "0" / ".hydra").is_dir()
    ran = with_file(text, "seed=1,2", "-m")
    assert ran.code == 0, "a file may say where runs go and where sweeps go"
    assert (ran.sweep_dir / "1").is_dir()
    assert with_file(text, sweep_dir=tmp_path / "said").code == 0
    assert (tmp_path / "said" / "0").is_dir(), "the command line comes after the file"


def test_both_folders_are_refused(command: Command, tmp_path: Path) -> None:
    ran = command(f"hydra.run.dir={tmp_path}/run")
    assert ran.code == 2
    assert "hydra.run.dir and hydra.sweep.dir: both say where the run goes; give one of them" in ran.err


def test_options_on_the_search_path_are_known(command: Command, tmp_path: Path) -> None:
    (tmp_path / "more" / "trainer").mkdir(parents=True)
    (tmp_path / "more" / "trainer" / "short.yaml").write_text("defaults: [default]\nmax_steps: 3\n")
    ran = command("trainer=short", f"hydra.searchpath=['file://{tmp_path}/more']", "--cfg", "job", "-p", "trainer")
    assert ran.code == 0, ran.err
    assert "max_steps: 3" in ran.out


def test_failures_that_a_launch_returns_are_looked_at(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever launched: Hydra itself looks at no return of a multirun."""
    monkeypatch.setattr(Launching, "train", lambda *_, **__: [JobReturn(status=JobStatus.FAILED)])
    assert command("seed=1").code == 1


def test_a_launcher_that_returns_without_having_trained_is_refused_by_the_sweeper_itself() -> None:
    OUTCOME.exit_code = 0
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("train", ["hydra/launcher=basic"], RunMode.MULTIRUN)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=None)  # type: ignore[arg-type]
        launcher = Plugins.instance().instantiate_launcher(context, lambda _: None, config)
        assert sweep(hydra.config_loader, config, launcher, {}, ["seed=1"]) == []
    assert OUTCOME.exit_code == 2
