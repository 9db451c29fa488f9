"""Whatever is wrong with a command line: a line for it, exit code 2, no traceback, and nothing is made."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_foundry.config.parse import ConfigError
from lora_foundry.launch.points.offline import compose_all
from tests.commands.ran import Command
from tests.phrases import NOT_STARTED, WRONG_LINE

_FLAGS = [
    "--multrun lora.rank=4,8",
    "--cgf job",
    "--mulitrun",
    "--verison",
    "--hlep",
    "-x",
    "-mm lora.rank=4,8",
    "--",
    "-1",
    "--cfg",
    "--cfg jobs",
    "--cfg=",
    "--cfg job --info",
    "--info nothing=1",
    "--info=nothing",
    "--resolve",
    "--package lora",
    "--cfg job --package nothere",
    "-m -r lora.rank=4,8",
    "-r sweep=rank",
    "-m hydra.mode=RUN",
    "--config-name nothere",
    "--config-name",
    "--config-dir nowhere",
    "--config-path nowhere",
    "--experimental-rerun config.pickle",
    "-sc",
    "-sc install=tcsh",
    "--help=1",
]
_WORDS = [
    "lora.rank",
    "=5",
    "lora.rank=[1",
    "lora.rank=4}",
    "lora.rank=${nothing}",
    "lora.rank=${oc.env:NOT_SET_ANYWHERE}",
    "lora.rank=${",
    "lora.rnk=4",
    "lora.rank.x=3",
    "lora.rank=4,8",
    "lora=4",
    "lora=null",
    "lora=[default]",
    "lora={rnk:8}",
    "lora={rank:{x:1}}",
    "++lora={rnk:8}",
    "+lora=default",
    "++lora=default",
    "~lora",
    "~lora.rank",
    "~nothing",
    "lora@x=default",
    "lora.rank@x=4",
    "lora/x=default",
    "/lora=default",
    "lora.=4",
    ".rank=4",
    "seed=range(3)",
    "seed=range(0,3,0) -m",
    "seed=range(3,0) -m",
    "seed=interval(0,3) -m",
    "seed=choice() -m",
    "seed=sort(1,a) -m",
    "seed=nofunction(1)",
    "data=glob(zzz*) -m",
    "seed=glob(*) -m",
    "data=emoji-flat,emoji-duotone",
    "data=[emoji-flat,emoji-duotone]",
    "data=[emoji-flat],[emoji-duotone] -m",
    "optimizer=[prodigy,adamw]",
    "optimizer=",
    "optimizer=''",
    "resume=nowhere",
    "resume=a,b -m",
]
_SWEEPS = [
    "sweep=null",
    "sweep=nothere",
    "sweep=3",
    "sweep={a:1}",
    "sweep=",
    "~sweep",
    "+sweep=rank",
    "sweep=rank,seeds -m",
    "sweep=glob(*) -m",
    "sweep=[rank,nothere]",
    "sweep=[rank_batch,seeds]",
    "sweep=[[rank]]",
]
_HYDRAS = [
    "hydra.foo=1",
    "+hydra.foo=1",
    "++hydra.foo=1",
    "~hydra.foo",
    "hydra=foo",
    "+hydra={x:1}",
    "hydra={run:{dri:1}}",
    "hydra.sweep=null",
    "hydra.sweep.dir=null",
    "hydra.sweep.dir=${nothing}",
    "hydra.sweep.subdir=${nothing}",
    "hydra.launcher=pack",
    "hydra.launcher=null",
    "~hydra.launcher",
    "hydra.launcher.pack_szie=1",
    "+hydra.launcher.pack_szie=1",
    "++hydra.launcher.pack_szie=1",
    "+hydra.launcher={pack_szie:1}",
    "+hydra.launcher.pack_size=1",
    "hydra.launcher.pack_size=abc",
    "hydra.launcher.pack_size=1,2",
    "hydra.launcher.pack_size=1,2 -m",
    "hydra.launcher._target_=os.system",
    "hydra.lunacher.pack_size=1",
    "hydra/launcher=basic",
    "hydra/launcher=joblib",
    "hydra/launcher=pack,basic -m",
    "hydra/launcher=null",
    "hydra/launcher=[pack]",
    "+hydra/launcher=pack",
    "hydra/lancher=pack",
    "hydra/sweeper=basic",
    "hydra/sweeper=basic hydra/launcher=basic lora.rank=4,8 -m",
    "+hydra/callbacks=log",
    "+hydra.callbacks.mine._target_=os.system",
    'hydra.sweeper.params={lora.rank:"4,8"}',
    "+hydra.sweeper.params.seed=1",
    "hydra.sweeper.max_batch_size=1",
    "hydra.sweeper.parms={}",
    "hydra.mode=SOMETIMES",
    "hydra.job.chdir=true",
    "hydra.job.env_set={A:b}",
    "hydra.job.env_copy=[NOT_SET_ANYWHERE]",
    "hydra.job.num=3",
    "hydra.output_subdir=conf",
    "hydra.output_subdir=null",
    "hydra.run.dir=out -m",
    "hydra.run.dir=${hydra.run.dir}",
    "hydra.runtime.cwd=/",
    "hydra.searchpath=nowhere",
    "hydra.searchpath=[nowhere]",
    "hydra.searchpath=[1]",
    "hydra.searchpath=[pkg://not.there]",
    "hydra.searchpath=[foo://bar]",
    "hydra.verbose={a:1}",
    "hydra/job_logging=nothere",
    "hydra/help=nothere",
]


@pytest.mark.parametrize("line", [*_FLAGS, *_WORDS, *_SWEEPS, *_HYDRAS])
def test_a_wrong_line_is_told_in_lines_and_makes_nothing(
    command: Command, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    own = any(word in line for word in ("sweep.dir", "run.dir"))
    ran = command(*line.split(" "), sweep_dir=None if own else tmp_path / "sweep")

    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err
    head, *told = ran.err.splitlines()
    assert head in (f"{WRONG_LINE}:", f"{NOT_STARTED}:")
    assert told
    assert all(one.startswith("  - ") and len(one) > 10 for one in told), ran.err
    assert "HYDRA_FULL_ERROR" not in ran.err
    assert not list(here.iterdir())
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+hydra.launcher.pack_szie=1", "pack_szie: no such key; did you mean 'hydra.launcher.pack_size'?"),
        ("hydra.swepe.dir=x", "hydra.swepe.dir: no such key; did you mean 'hydra.sweep.dir'?"),
        ("hydra/lancher=pack", "hydra/lancher: no such group; did you mean 'hydra/launcher'?"),
        ("lora={rnk:8}", "lora.rnk: no such key; did you mean 'lora.rank'?"),
        ("hydra/launcher=basic", "hydra/launcher: got basic, allowed is pack: jobs train in worker processes"),
        ("hydra/sweeper=basic", "hydra/sweeper: got basic, allowed is tolerant, optuna or pbt: it checks every point"),
        ("hydra.job.chdir=true", "hydra.job.chdir: jobs train in the folder that the command is given in"),
        ("hydra.output_subdir=x", "hydra.output_subdir: resuming looks for a job's configuration in .hydra"),
        ("optimizer.options.d_coef=2", "optimizer.options.d_coef: no such key here; it is an option of prodigy"),
        ("+optimizer.options.d_coef=2", "optimizer.options.d_coef: no option of optimizer.name=adamw; it has none"),
        ("optimizer.options.d_coff=2", "d_coff: no such key; did you mean 'optimizer.options.d_coef'?"),
        ("sweep=null", "sweep: got null, leave it out to choose none"),
        ("data=[emoji-flat,emoji-duotone]", "a job has one data; allowed is one of emoji-duotone, emoji-flat, folder"),
        ("lora.target_modules=to_q,to_v", "add -m to train one adapter for each, or write [to_q,to_v] for one list"),
    ],
)
def test_the_line_says_what_is_right(command: Command, word: str, said: str) -> None:
    assert f"{said}" in command(word).err


@pytest.mark.parametrize("word", ["data=emoji-flat,emoji-duotone", "lora.rank=4,8"])
def test_a_list_is_advised_only_where_one_is_allowed(command: Command, word: str) -> None:
    err = command(word).err
    assert "add -m" in err
    assert "[" not in err


_KEYS = [
    "lora",
    "lora.rank",
    "lora.rank.x",
    "lora.target_modules",
    "data",
    "data.path",
    "model",
    "seed",
    "name",
    "resume",
    "sweep",
    "experiment",
    "hydra",
    "hydra.run",
    "hydra.run.dir",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
    "hydra.mode",
    "hydra.launcher",
    "hydra.launcher.pack_size",
    "hydra.launcher.devices",
    "hydra.sweeper",
    "hydra.sweeper.params",
    "hydra/launcher",
    "hydra/sweeper",
    "hydra/help",
    "hydra.job",
    "hydra.job.name",
    "hydra.verbose",
    "hydra.searchpath",
]
_VALUES = [
    "",
    *[
        "4",
        "4,8",
        "null",
        "true",
        "''",
        "abc",
        "-1",
        "1e9",
        "nan",
        "???",
        "[]",
        "[a,b]",
        "[1,[2]]",
        "{}",
        "{a:1}",
        "{a:{b:2}}",
        "glob(*)",
        "range(0,3)",
        "range(3)",
        "interval(0,1)",
        "choice(1,2)",
        "[rank,seeds]",
        "rank,seeds",
        "pack",
        "basic",
        "${seed}",
        "${x}",
        "${",
        "${hydra:job.num}",
        "${now:%Y}",
        "${oc.env:HOME}",
        "~",
        "$",
        "\\",
        ",",
        "=",
        "@",
        "ü",
        "file:///x",
    ],
]
_word = st.builds(
    "{}{}={}".format, st.sampled_from(["", "", "", "+", "++", "~"]), st.sampled_from(_KEYS), st.sampled_from(_VALUES)
)
_flag = st.sampled_from(
    [["-m"], ["-r"], ["--cfg", "job"], ["--cfg", "all"], ["--resolve"], ["-p", "lora"], ["--info", "defaults"], ["-h"]]
)


@settings(max_examples=80)
@given(words=st.lists(_word, min_size=1, max_size=3), flags=st.lists(_flag, max_size=2))
def test_no_line_whatever_ends_in_a_traceback(command: Command, words: list[str], flags: list[list[str]]) -> None:
    given = [*(word for flag in flags for word in flag), *words]
    ran = command(*given, "hydra.launcher.plan_only=true", sweep_dir=None)
    assert ran.code in (0, 2), (given, ran)
    assert "Traceback" not in ran.err, given
    assert ran.code == 0 or ran.err.startswith(("The command line is wrong:\n  - ", "Nothing was started:\n  - "))


@settings(max_examples=40)
@given(words=st.lists(_word, min_size=1, max_size=3))
def test_predicting_refuses_such_lines_as_well(words: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        assert compose_all(words)
    GlobalHydra.instance().clear()


def test_a_command_that_shows_something_leaves_the_processs_signals_alone(command: Command) -> None:
    before = signal.getsignal(signal.SIGPIPE)
    assert command("--cfg", "job", sweep_dir=None).code == 0
    assert signal.getsignal(signal.SIGPIPE) is before
