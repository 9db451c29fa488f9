"""Kept traces: whole, of this code only, and without what is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import traced

TRACE = "0123456789abcdef" * 2 + ".json"


def test_what_was_traced_once_lies_there_the_next_time_and_measurements_do_not(tmp_path: Path) -> None:
    store, first, second = (tmp_path / name for name in ("store", "first", "second"))
    store.mkdir()
    with traced.lent(store, first):
        for name in (TRACE, "rate-0123456789abcdef01234567.json", "errors.jsonl"):
            (first / "memory" / name).write_text(name)
    with traced.lent(store, second):
        assert [path.name for path in (second / "memory").iterdir()] == [TRACE]
    assert (store / TRACE).read_text() == TRACE


def test_traces_of_other_code_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (traced.store_below(tmp_path) / TRACE).touch()
    assert (traced.store_below(tmp_path) / TRACE).exists()
    monkeypatch.setattr(traced, "ROOT", tmp_path / "tree")
    (tmp_path / "tree" / "src").mkdir(parents=True)
    (tmp_path / "tree" / "constraints.txt").touch()
    (tmp_path / "tree" / "src" / "code.py").write_text("a = 1")
    one = traced.digest_of_code()
    (tmp_path / "tree" / "src" / "code.py").write_text("a = 2")
    assert traced.digest_of_code() != one
    assert not list(traced.store_below(tmp_path / "kept").iterdir())
    traced.store_below(tmp_path / "kept")
    (tmp_path / "tree" / "src" / "code.py").write_text("a = 3")
    traced.store_below(tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 1
