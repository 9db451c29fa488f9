"""A folder for copies is looked at before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_foundry.config.schema_results import ExportConfig
from lora_foundry.launch.points.copies import copy_problems
from tests.phrases import COPIES_INTO_NOTHING


def test_a_folder_that_is_there_is_fine_and_stays_empty(tmp_path: Path) -> None:
    assert copy_problems(ExportConfig(copy_to=str(tmp_path))) == []
    assert copy_problems(ExportConfig(copy_to=None)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_a_path_to_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "which is a file" in copy_problems(ExportConfig(copy_to=str(tmp_path / "file")))[0]
    assert COPIES_INTO_NOTHING in copy_problems(ExportConfig(copy_to=str(tmp_path / "gone")))[0]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    assert "cannot be written (Permission denied)" in copy_problems(ExportConfig(copy_to=str(tmp_path)))[0]
