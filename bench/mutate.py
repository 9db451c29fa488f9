"""``make mutate``: small changes to the code that tests should notice; what none notices must have a reason.

mutmut does the work, in a copy of the tree below ``.cache/mutate/`` for each file. A copy keeps its verdicts: what was
broken off goes on, and of a file that changed only the functions that did are tried again. Survivors are compared with
tests/mutants.toml.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from bench import PROJECT_ROOT
from lora_foundry.config.files import write_atomic, write_json

WORK = PROJECT_ROOT / ".cache" / "mutate"
RESULTS = PROJECT_ROOT / "bench" / "results" / "mutants.json"
REASONS = PROJECT_ROOT / "tests" / "mutants.toml"
LEAST = 0.95
_ORACLE = "tests/training/test_update_oracle.py"
_PLAIN = f"{_ORACLE}::test_a_solo_members_updates[plain]"
_TRIPLE = f"{_ORACLE}::test_the_updates_of_three_that_differ"
_FAILING = "tests/training/test_failing.py"
_OBJECTIVES = ("tests/objectives",)
_OPTIMIZERS = ("tests/training/test_optimizers.py",)
_SCHEDULES = ("tests/training/test_schedules.py",)
_LAYERS = "tests/lora/test_packed_layers.py"
TESTS: dict[str, tuple[str, ...]] = {
    "src/lora_foundry/objectives/losses.py": _OBJECTIVES,
    "src/lora_foundry/objectives/noise.py": _OBJECTIVES,
    "src/lora_foundry/objectives/process.py": _OBJECTIVES,
    "src/lora_foundry/objectives/alpha_bar.py": _OBJECTIVES,
    "src/lora_foundry/objectives/targets.py": _OBJECTIVES,
    "src/lora_foundry/objectives/timesteps.py": _OBJECTIVES,
    "src/lora_foundry/objectives/weighting.py": _OBJECTIVES,
    "src/lora_foundry/lora/rows.py": ("tests/lora/test_rows.py", _LAYERS),
    "src/lora_foundry/lora/kinds/lora/layers.py": ("tests/lora/test_layers.py", _LAYERS),
    "src/lora_foundry/lora/kinds/lora/low_rank.py": ("tests/lora/test_layers.py", _LAYERS),
    "src/lora_foundry/lora/bank.py": ("tests/lora/test_bank.py", _LAYERS),
    "src/lora_foundry/lora/dropout.py": ("tests/lora/test_dropout.py",),
    "src/lora_foundry/lora/forward.py": ("tests/lora/test_layers.py", "tests/lora/test_bank.py", _LAYERS),
    "src/lora_foundry/lora/gradients.py": ("tests/lora/test_layers.py", "tests/lora/test_bank.py", _LAYERS),
    "src/lora_foundry/lora/layout.py": ("tests/lora/test_bank.py", _LAYERS),
    "src/lora_foundry/memory/between.py": ("tests/memory/test_between.py", "tests/memory/test_table.py"),
    "src/lora_foundry/memory/trace_pictures.py": ("tests/memory/test_between.py",),
    "src/lora_foundry/training/loss_scale.py": ("tests/training/test_loss_scale.py",),
    "src/lora_foundry/training/peaks.py": ("tests/training/test_peaks.py",),
    "src/lora_foundry/training/schedules/__init__.py": _SCHEDULES,
    "src/lora_foundry/training/schedules/cosine.py": _SCHEDULES,
    "src/lora_foundry/training/schedules/linear.py": _SCHEDULES,
    "src/lora_foundry/training/batch.py": (
        "tests/training/test_batch.py",
        *(f"{_ORACLE}::test_a_solo_members_updates[{name}]" for name in ("noise offset", "caption dropout", "dropout")),
        _TRIPLE,
    ),
    "src/lora_foundry/tasks/denoising/task.py": (
        "tests/training/test_batch.py",
        "tests/training/test_validation.py",
        *(f"{_ORACLE}::test_a_solo_members_updates[{name}]" for name in ("noise offset", "caption dropout", "dropout")),
        _TRIPLE,
    ),
    "src/lora_foundry/training/pack_step.py": (
        "tests/training/test_pack_step.py",
        _PLAIN,
        f"{_ORACLE}::test_a_solo_members_updates[accumulation]",
        f"{_ORACLE}::test_a_solo_members_updates[prodigy]",
        f"{_ORACLE}::test_updates_under_either_prediction_with_min_snr_and_without[epsilon]",
        f"{_ORACLE}::test_clipping_is_torchs[adamw]",
        f"{_FAILING}::test_one_that_never_made_a_step_leaves_none_and_its_rate_is_not_blamed",
        f"{_FAILING}::test_the_advice_names_what_is_set",
    ),
    "src/lora_foundry/training/pack_optimizer.py": _OPTIMIZERS,
    "src/lora_foundry/training/optimizers/adafactor.py": _OPTIMIZERS,
    "src/lora_foundry/training/optimizers/adamw.py": _OPTIMIZERS,
    "src/lora_foundry/training/optimizers/prodigy.py": _OPTIMIZERS,
    "src/lora_foundry/training/validation.py": ("tests/training/test_validation.py",),
}
"""Each file with the quick tests that should notice."""

_COPIED = ("src", "tests", "conf", "pyproject.toml")
_KILLED, _SURVIVED, _UNTRIED = "killed", "survived", "untried"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Mutant:
    """A change that no test noticed.

    Attributes:
        file: Path from the project's root.
        function: Name, with its class in front: ``RowPlan.covers``.
        was: The lines that were changed, stripped, joined by a space.
        now: What they became.
    """

    file: str
    function: str
    was: str
    now: str


def copy_tree(work: Path) -> None:
    """Bring the copy below ``work`` up to date; a file that did not change keeps its time, by which mutmut goes."""
    wanted: set[Path] = set()
    for path in _files():
        target = work / path.relative_to(PROJECT_ROOT)
        wanted.add(target)
        content = path.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for old in (*(work / "tests").rglob("*.py"), *(work / "src").rglob("*.py")):
        if old not in wanted:
            old.unlink()


def _files() -> Iterable[Path]:
    for name in _COPIED:
        place = PROJECT_ROOT / name
        inside = place.rglob("*") if place.is_dir() else [place]
        yield from (path for path in inside if path.is_file() and "__pycache__" not in path.parts)


def work_of(file: str) -> Path:
    """The folder in which ``file`` is mutated."""
    return WORK / Path(file).with_suffix("").as_posix().replace("/", ".")


def mutate(file: str, children: int, minutes: float | None) -> None:
    """Try the mutants of ``file`` that have no verdict yet, for at most so many minutes."""
    work = work_of(file)
    work.mkdir(parents=True, exist_ok=True)
    copy_tree(work)
    tests = [name for name in TESTS[file] if (work / name.split("::")[0]).exists()]
    settings = {
        "source_paths": ["src"],
        "only_mutate": [file],
        "also_copy": [name for name in _COPIED if name != "src"],
        "pytest_add_cli_args_test_selection": tests,
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "use_git_change_detection": ["false"],
        "track_dependencies": ["false"],
        "timeout_multiplier": ["3"],  # of the tests' own time; a change that never ends is noticed, too
        "timeout_constant": ["5"],
    }
    lines = ["[mutmut]", *(f"{key} =\n  " + "\n  ".join(values) for key, values in settings.items())]
    write_atomic(work / "setup.cfg", "\n".join(lines) + "\n")
    _forget_survivors(file, tests)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(children)]
    log = work / "mutmut.log"  # its spinner is for a terminal of its own
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            code = process.wait(None if minutes is None else minutes * 60)
        except subprocess.TimeoutExpired:
            code = 0  # verdicts so far are kept: each is written as it comes
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    if code:
        sys.exit(f"mutmut ended with {code} for {file}; see {log}")


def _meta(file: str) -> Path:
    return work_of(file) / "mutants" / (file + ".meta")


def _forget_survivors(file: str, tests: Sequence[str]) -> None:
    """Where the tests are other ones than before, what survived them is to be tried again."""
    work = work_of(file)
    told, now = work / "tests.sha256", hashlib.sha256("\n".join(tests).encode())
    for path in sorted((work / "tests").rglob("*.py")):
        if any(str(path.relative_to(work)).startswith(name.split("::")[0]) for name in tests):
            now.update(path.read_bytes())
    if _meta(file).exists() and (not told.exists() or told.read_text() != now.hexdigest()):
        meta = json.loads(_meta(file).read_text())
        survived = [name for name, verdict in verdicts(file).items() if verdict == _SURVIVED]
        meta["exit_code_by_key"] |= dict.fromkeys(survived)
        _meta(file).write_text(json.dumps(meta))
        (work / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    told.write_text(now.hexdigest())


def verdicts(file: str) -> dict[str, str]:
    """Mutant's name to its verdict."""
    from mutmut.stats import status_by_exit_code

    codes: Mapping[str, int | None] = json.loads(_meta(file).read_text())["exit_code_by_key"]
    found = {}
    for name, code in codes.items():
        survived = status_by_exit_code[code] in {"survived", "no tests", "suspicious", "skipped"}
        found[name] = _UNTRIED if code is None else _SURVIVED if survived else _KILLED
    return found


def described(file: str, name: str) -> Mutant:
    """The mutant ``name`` in words that outlive a renumbering."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    with contextlib.chdir(work_of(file)):
        shown: str = get_diff_for_mutant(name, path=file)
    body = [line for line in shown.splitlines() if not line.startswith(("---", "+++"))]
    was = " ".join(line[1:].strip() for line in body if line.startswith("-"))
    now = " ".join(line[1:].strip() for line in body if line.startswith("+"))
    mangled = name.rpartition("__mutmut_")[0].rpartition(".")[2]
    function = mangled.removeprefix("xǁ").replace("ǁ", ".") if "ǁ" in mangled else mangled.removeprefix("x_")
    return Mutant(file=file, function=function, was=was, now=now)


def result_of(file: str) -> dict[str, Any]:
    """Counts and survivors of ``file``, as they are kept."""
    found = verdicts(file)
    survivors = sorted(described(file, name) for name, verdict in found.items() if verdict == _SURVIVED)
    return {
        "mutants": len(found),
        "killed": sum(verdict == _KILLED for verdict in found.values()),
        "untried": sum(verdict == _UNTRIED for verdict in found.values()),
        "survivors": [{"function": m.function, "was": m.was, "now": m.now} for m in survivors],
    }


def survivors_of(results: Mapping[str, Any]) -> list[Mutant]:
    """Every survivor that was kept."""
    return [Mutant(file=file, **survivor) for file, kept in results.items() for survivor in kept["survivors"]]


def read_reasons(path: Path = REASONS) -> dict[Mutant, str]:
    """Why each known survivor may live."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", [])
    keys = ("file", "function", "was", "now")
    return {Mutant(**{key: entry[key] for key in keys}): entry["reason"] for entry in entries}


def compare(results: Mapping[str, Any], reasons: Mapping[Mutant, str]) -> list[str]:
    """What is wrong: too few killed, survivors without a reason, reasons without a survivor; a line each."""
    problems = []
    total = sum(kept["mutants"] for kept in results.values())
    killed = sum(kept["killed"] for kept in results.values())
    if killed < LEAST * total:
        problems.append(f"{killed} of {total} mutants were killed, allowed is at least {LEAST:.0%}")
    left = survivors_of(results)
    for mutant in left:
        if mutant not in reasons:
            where = f"{mutant.file}, {mutant.function}"
            problems.append(f"no reason in {REASONS.name}: {where}: {mutant.was}  ->  {mutant.now}")
    known = {mutant for mutant in reasons if mutant.file in results}
    problems += [f"killed or gone, but has a reason: {m.file}, {m.function}: {m.now}" for m in sorted(known - {*left})]
    return problems


def show(results: Mapping[str, Any], console: Console) -> None:
    """A table of the files."""
    right = [Column(name, justify="right") for name in ("mutants", "killed", "survived", "untried", "share")]
    table = Table("file", *right, box=SIMPLE)
    for file, kept in results.items():
        share = kept["killed"] / max(1, kept["mutants"])
        counts = (kept["mutants"], kept["killed"], len(kept["survivors"]), kept["untried"])
        table.add_row(file, *map(str, counts), f"{share:.1%}")
    console.print(table)


def _kept() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}  # read late: another file may be under way


def main(arguments: Sequence[str] | None = None) -> int:
    """Mutate; 1 where something is left without a reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join(TESTS)}; all by default")
    parser.add_argument("--children", type=int, default=1, help="mutants side by side")
    parser.add_argument("--minutes", type=float, help="for each file; a later call goes on")
    options = parser.parse_args(arguments)
    if others := [file for file in options.files if file not in TESTS]:
        parser.error(f"got {', '.join(others)}, allowed is any of {', '.join(TESTS)}")
    for file in options.files or TESTS:
        print(f"== {file}", flush=True)
        mutate(file, options.children, options.minutes)
        results = {name: kept for name, kept in _kept().items() if name in TESTS} | {file: result_of(file)}
        write_json(RESULTS, dict(sorted(results.items())))
    results = _kept()
    show(results, Console())
    problems = compare(results, read_reasons() if REASONS.exists() else {})
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
