"""An ablation from packs to the group that is named, on a task that takes a few seconds of a processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_foundry.judge.removal import effects
from tests.tasks.numbers.removing import ablated


@pytest.mark.slow
def test_of_eight_groups_the_one_with_swapped_answers_is_named_and_clean_ones_are_not(tmp_path: Path) -> None:
    """Real packs of a member with all questions and one without each group; docs/search.md has twenty such runs."""
    clean, swapped = (ablated(tmp_path / str(group), 1, swapped=group) for group in (None, 3))
    assert [one.low > 0 for one in effects(clean[:, 0], clean[:, 1:])] == [False] * 8
    assert [one.low > 0 for one in effects(swapped[:, 0], swapped[:, 1:])] == [place == 3 for place in range(8)]
