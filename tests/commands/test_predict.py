"""``python -m src.predict`` as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import nursery
from tests.phrases import BESIDE_THE_STEPS
from tests.root import PROJECT_ROOT


@pytest.fixture(scope="module")
def cache(traces: Path) -> str:
    """Where steps are traced already, as an override."""
    return f"data.cache_dir={traces}"


def _predict(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "src.predict", *words]
    return nursery.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=200)


# So that a step is soon traced at many sizes.
_FEW_LAYERS = "lora.target_modules=[to_q]"


def _rows(text: str) -> list[list[str]]:
    """The cells of every line that begins with two numbers."""
    lines = [line.split() for line in text.splitlines()]
    return [cells for cells in lines if len(cells) > 1 and all(cell[0].isdigit() for cell in cells[:2])]


def test_a_row_a_combination(cache: str) -> None:
    told = _predict(cache, "data.batch_size=1,2", "lora.rank=4,8")
    assert told.returncode == 0, told.stderr
    rows = _rows(told.stdout)
    assert [row[:3] for row in rows] == [["1", "4", "64"], ["1", "8", "64"], ["2", "4", "64"], ["2", "8", "64"]]
    for row in rows:
        total, *parts, on_card = (float(cell) for cell in row[3:])
        assert total == pytest.approx(sum(parts), abs=0.03)
        assert on_card > total + 0.8  # CUDA, its libraries, and what the allocator keeps
    assert "Tensors of a step" in told.stdout
    beside = [line for line in told.stdout.splitlines() if line.startswith(BESIDE_THE_STEPS)]
    assert 2 <= len(beside) <= 4, "the same for any rank but for the time"
    assert all(line.endswith(" in all.") for line in beside)


def test_what_fits(cache: str) -> None:
    told = _predict(cache, "lora.rank=8", "data.batch_size=1", "--fits", "1", _FEW_LAYERS)
    assert told.returncode == 0, told.stderr
    off, on = _rows(told.stdout)
    assert off[:4] == ["1", "8", "64", "off"]
    assert int(on[4]) > int(off[4]) > 8


def test_a_dash_is_explained_where_nothing_fits(cache: str) -> None:
    told = _predict(cache, "lora.rank=8", "data.batch_size=1", "--fits", "0.51", _FEW_LAYERS)
    assert told.returncode == 0, told.stderr
    assert _rows(told.stdout)[0][4] == "-"
    assert "-: not even the least fits" in told.stdout


def test_members(cache: str) -> None:
    def peak(*words: str) -> float:
        told = _predict(cache, "data.batch_size=1", "lora.rank=8", *words)
        return float(_rows(told.stdout)[0][3])

    assert peak("--members", "8") > peak()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lora.rnk=4",), "did you mean 'lora.rank'"),
        (("lora.rank=0",), "lora.rank: got 0"),
        (("data.resolution=63",), "data.resolution: got 63"),
        (("--fits", "abc"), "allowed is a number of GiB above 0"),
        (("--members", "0"), "allowed is a whole number of at least 1"),
        (("lora.target_modules=[to_nothing]",), "to_nothing"),
        (("model.path=/nowhere",), "model.path"),
    ],
)
def test_wrong_words_are_one_clear_error(words: tuple[str, ...], said: str, cache: str) -> None:
    told = _predict(cache, *words)
    assert told.returncode == 2
    assert said in told.stderr
    assert "Traceback" not in told.stderr
