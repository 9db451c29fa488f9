"""Where relative paths lead."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_foundry.config.paths import locate
from tests.root import PROJECT_ROOT


def test_a_shipped_path_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("conf/train.yaml") == PROJECT_ROOT / "conf/train.yaml"


def test_a_users_own_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    assert locate("conf").resolve() == tmp_path / "conf"


def test_a_path_that_is_nowhere_stays_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("photos/anna") == Path("photos/anna")
    assert locate("/no/such/folder") == Path("/no/such/folder")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/photos") == tmp_path / "photos"
