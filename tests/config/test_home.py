"""``~`` is a home folder wherever a path is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docs.configuration import group_notes
from lora_foundry.config import JobConfig, parse
from lora_foundry.config.hints import group_classes, hint_of, known_keys
from lora_foundry.config.paths import expand_home, home_path, locate

Change = Callable[[dict[str, Any]], dict[str, Any]]
PATHS = (
    "model.path",
    "model.config",
    "data.path",
    "data.val_path",
    "data.cache_dir",
    "lora.init_from",
    "export.copy_to",
    "tracking.root",
)


def get(job: JobConfig, key: str) -> Any:
    value: Any = job
    for part in key.split("."):
        value = getattr(value, part)
    return value


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("key", [*PATHS, "resume", "tracking.uri"])
def test_a_path_of_a_job_may_begin_with_a_home_folder(with_values: Change, home: Path, key: str) -> None:
    assert get(parse(with_values({key: "~/x"})), key) == f"{home}/x"


def test_every_key_that_names_a_folder_or_a_file_does_so(with_values: Change, home: Path) -> None:
    groups = {key: cls for key in known_keys() if "." not in key for cls in group_classes(hint_of(key)).values()}
    notes = {f"{group}.{name}": note for group, cls in groups.items() for name, note in group_notes(cls).items()}
    named = {key for key, note in notes.items() if note.startswith(("Folder", "Adapter file", "Tracking server"))}
    assert set(PATHS) | {"tracking.uri"} <= named
    for key in named:
        assert get(parse(with_values({key: "~/x"})), key) == f"{home}/x", key


def test_a_database_may_lie_there(home: Path) -> None:
    assert expand_home("sqlite:///~/runs/mlflow.db") == f"sqlite:///{home}/runs/mlflow.db"
    assert expand_home("sqlite:////abs/~/mlflow.db") == "sqlite:////abs/~/mlflow.db"


def test_the_home_of_somebody_who_has_none_is_missing_by_its_name() -> None:
    assert home_path("~nobody-here/x") == Path("~nobody-here/x")
    assert locate("~nobody-here/x") == Path("~nobody-here/x")
