"""What one test leaves behind, no other finds."""

from __future__ import annotations

import os

import pytest


@pytest.mark.parametrize("_time", [1, 2])
def test_a_variable_set_for_good_is_gone_in_the_next_test(_time: int) -> None:
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///elsewhere.db"
    del os.environ["HF_HUB_OFFLINE"]
