"""What holds for the repository as a whole: pins, pages, sizes, the table of rooms."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import tomllib
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import tests.conftest

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SKIPPED = {".git", ".venv", ".cache", "multirun", "mlruns", "__pycache__", "models"}
LINES_OF_A_COMMAND, LINES_OF_A_FILE = 80, 450  # a file is as long as its one thought: this holds two of them apart


def files(*suffixes: str, below: Path = ROOT) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(below):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.endswith("_cache")]
        found += [Path(folder) / name for name in names if name.endswith(suffixes)]
    return sorted(found)


def pins() -> dict[str, Version]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {
        name.lower().replace("_", "-"): Version(version) for name, _, version in (x.partition("==") for x in lines if x)
    }


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_each_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier, "a range says what the code was written against"
    assert pins()[requirement.name.lower()] in requirement.specifier


def test_pins_are_exact_and_without_local_versions() -> None:
    assert pins()["torch"] == Version("2.13.0")
    assert [name for name, version in pins().items() if version.local] == []


def test_the_distribution_is_named_and_licensed() -> None:
    project = PROJECT["project"]
    assert (project["name"], project["license"]) == ("lora-foundry", "Apache-2.0")
    assert project["requires-python"] == ">=3.11,<3.14"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_runs_land_in_folders_that_are_kept_but_not_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for name in ("multirun", "mlruns"):
        assert (ROOT / name / ".gitkeep").exists()
        assert {f"/{name}/*", f"!/{name}/.gitkeep"} <= set(ignored)


def test_the_page_of_configuration_is_current() -> None:
    spec = importlib.util.spec_from_file_location("write_configuration", ROOT / "docs/configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs/configuration.md").read_text() == module.page(), "run `make docs`"


def test_the_readme_names_every_make_target_that_ci_runs_and_no_other_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    readme = (ROOT / "README.md").read_text()
    ci = (ROOT / ".ci/run").read_text()
    assert {"setup", "demo", "test", "ui", "bench", "lint", "help"} <= targets
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", readme, re.MULTILINE)) <= targets
    assert re.findall(r"^make ([a-z-]+)$", ci, re.MULTILINE) == ["lint", "test"]
    assert all(f"make {target}" in readme for target in ("demo", "test", "ui", "setup", "lint", "bench"))
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda path: path.name,
)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md", "docs/configuration.md"])
def test_every_key_named_in_the_pages_exists(name: str) -> None:
    from lora_foundry.config.hints import known_keys  # the only test here that needs the project itself

    groups = {key for key in known_keys() if "." not in key}
    named = re.findall(r"`([a-z]+)\.([a-z_]+)[=`]", (ROOT / name).read_text())
    assert {f"{group}.{leaf}" for group, leaf in named if group in groups} <= set(known_keys())


def test_the_pages_from_end_to_end_are_short_and_name_what_is_there() -> None:
    page = (ROOT / "docs/contributing.md").read_text()
    assert [part.splitlines()[0] for part in page.split("\n## ")[1:] if len(part.splitlines()) >= 60] == []
    named = re.findall(r"`((?:src|tests)/[\w/.]+\.py)`: `(\w+)`", page)
    assert len(named) >= 20
    assert [(file, name) for file, name in named if not re.search(rf"\b{name}\b", (ROOT / file).read_text())] == []
    paths = re.findall(r"`((?:src|tests|bench)/[\w/.]+)`", page + (ROOT / "CONTRIBUTING.md").read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_where_the_rate_is_decided_is_read_in_three_files() -> None:
    page = (ROOT / "docs/contributing.md").read_text()
    part = page.split("\n## Where the rate is decided\n")[1].split("\n## ")[0]
    assert len(set(re.findall(r"`(src/[\w/.]+\.py)`", part))) == 3
    made_of = re.compile(r"\b(warmup_of|min_lr_ratio|warmup_steps)\b")
    room = ROOT / "src/lora_foundry/training"
    used = {path.parent.name for path in files(".py", below=room) if made_of.search(path.read_text())}
    assert used == {"schedules"}


def test_the_way_of_an_override_names_files_that_are_there_and_counts_them() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    told = page.partition("**The way of one override**")[2].partition("## Rooms")[0]
    rows = {
        row.split("|")[1].strip(): re.findall(r"`([\w/]+\.py)`", row)
        for row in told.splitlines()
        if row.startswith("| ")
    }
    places = [
        ROOT / (name if name.startswith("src/") else f"src/lora_foundry/{name}")
        for row in rows.values()
        for name in row
    ]
    assert [place for place in places if not place.is_file()] == []
    common = sum(len(rows[step]) for step in "1234")
    assert (
        f"So {common + len(rows['7'])} files to the row in MLflow, {common + len(rows['5']) + len(rows['6'])} to"
        in told
    )


@pytest.mark.parametrize("section", ["What happens on SIGTERM", "Where the rate is decided"])
def test_what_people_ask_most_is_read_in_three_files(section: str) -> None:
    page = (ROOT / "docs/contributing.md").read_text()
    told = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert len(set(re.findall(r"`(src/[\w/.]+\.py)`", told))) == 3


@pytest.mark.parametrize("path", files(".py", below=ROOT / "src"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_and_a_file_stay_small(path: Path) -> None:
    limit = LINES_OF_A_COMMAND if path.parent == ROOT / "src/lora_foundry/commands" else LINES_OF_A_FILE
    assert len(path.read_text().splitlines()) <= limit


def test_every_room_has_a_contract_and_no_room_a_forbidden_name() -> None:
    inside = (path for path in (ROOT / "src/lora_foundry").iterdir() if path.is_dir())
    rooms = {path.name for path in inside} - {"__pycache__", "commands"}
    held = {
        name for contract in PROJECT["tool"]["importlinter"]["contracts"] for name in contract.get("source_modules", ())
    }
    assert {f"lora_foundry.{room}" for room in rooms} == {name for name in held if name.startswith("lora_foundry.")}
    forbidden = {"utils", "helpers", "common", "manager", "handler"}
    assert [path for path in files(".py") if forbidden & set(re.split(r"[/_.]", str(path.relative_to(ROOT))))] == []


def test_late_imports_have_their_reason_once() -> None:
    rule = "noqa: " + "PLC0415"  # a rule of pyproject.toml says it for all files of a kind
    assert [str(path.relative_to(ROOT)) for path in files(".py") if rule in path.read_text()] == []


def test_a_developer_has_hundreds_of_quick_tests() -> None:
    """At least 700 of ``make quick``, whose time :func:`tests.conftest.pytest_runtest_call` holds."""
    whole = [ROOT / "tests" / room for room in tests.conftest._WHOLE_PROGRAMS]
    found = [
        one.name
        for path in files(".py", below=ROOT / "tests")
        if path.name.startswith("test_") and not any(room in path.parents for room in whole)
        for one in ast.parse(path.read_text()).body
        if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")
        if not any("slow" in ast.unparse(mark) for mark in one.decorator_list)
    ]
    assert len(found) >= 700


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(("took", "slowness"), [(1.9, 1.0), (2.1, 1.0), (2.9, 1.5), (3.1, 1.5)])
def test_a_test_that_is_not_quick_fails_among_the_quick_ones(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, took: float, slowness: float, quick: bool
) -> None:
    clock = iter([10.0, 10.0 + took])
    slow = quick and took > 2 * slowness
    failing = pytest.raises(pytest.fail.Exception, match=r"pytest\.mark\.slow") if slow else nullcontext()
    with monkeypatch.context() as patch, failing, suppress(StopIteration):
        patch.setattr(tests.conftest, "_processor_s", lambda: next(clock))
        patch.setattr(tests.conftest, "_slowness", lambda: slowness)
        patch.setattr(request.config.option, "quick", quick)
        running = tests.conftest.pytest_runtest_call(request.node)
        next(running)
        next(running)


def test_what_runs_without_tests_imports_none_and_starts_none() -> None:
    named = re.compile(r"^\s*(from|import) tests\b|\btests\.\w+\.\w+|\btests/\w+/fake", re.MULTILINE)
    beside = ("src", "bench", "recipes", "docs")
    found = {
        str(path.relative_to(ROOT)): named.findall(path.read_text())
        for r in beside
        for path in files(".py", below=ROOT / r)
    }
    assert {path: hits for path, hits in found.items() if hits} == {}


def test_what_a_fake_worker_does_is_asked_for_by_name() -> None:
    from tests.launch.seeds import Seed

    number = re.compile(rf"""["' ]seed=(\d+,)*({"|".join(str(seed.value) for seed in Seed)})\b""")
    tests = [path for room in ("commands", "launch") for path in files(".py", below=ROOT / "tests" / room)]
    assert [str(path.relative_to(ROOT)) for path in tests if number.search(path.read_text())] == []


def test_plugins_lie_in_a_namespace_package_that_hydra_finds() -> None:
    assert not (ROOT / "src/hydra_plugins/__init__.py").exists()
    assert files(".py", below=ROOT / "src/hydra_plugins")


def test_nothing_is_left_undone_or_switched_off() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b|mark\.skip|mark\.xfail|pytest\.(skip|xfail)\(")
    here = Path(__file__)
    found = [path for path in files(".py", ".yaml", ".toml") if path != here and marks.search(path.read_text())]
    assert found == []


def test_make_help_lists_the_targets() -> None:
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607
    assert "make demo" in printed
    assert "make test" in printed


_ROOM = "commands|config|data|doctor|launch|lora|memory|models|objectives|report|tasks|tracking|training"
_ROOM += "|wire|wiring|worker"
_CITED = re.compile(rf"(?<![\w/<{{*.])((?:src|docs|conf|{_ROOM})/[\w/.-]+\.(?:py|md|yaml|bash))")
_REFERRED = re.compile(r":(?:mod|class|func|data|attr|meth):`~?(lora_foundry[\w.]+)`")


def test_comments_cite_what_is_there() -> None:
    package = ROOT / "src/lora_foundry"
    for path in files(".py", below=ROOT / "src"):
        text = path.read_text()
        places = (ROOT, package, package / "launch", path.parent)
        gone = [name for name in _CITED.findall(text) if not any((place / name).exists() for place in places)]
        assert (path, gone) == (path, [])
        for name in _REFERRED.findall(text):
            parts = name.split(".")
            depth = next(n for n in range(len(parts), 0, -1) if _module(parts[:n]) is not None)
            module = _module(parts[:depth])
            assert module is not None
            assert depth == len(parts) or re.search(rf"\b{parts[depth]}\b", module.read_text()), (path, name)


def _module(parts: list[str]) -> Path | None:
    place = ROOT / "src" / "/".join(parts)
    return next((one for one in (place.with_suffix(".py"), place / "__init__.py") if one.exists()), None)
