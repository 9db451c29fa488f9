"""MLflow's own variables: used where nothing else is said, and told."""

from __future__ import annotations

import pytest

from lora_foundry.tracking.environment import settled

OPEN = {"enabled": True, "uri": None, "root": "mlruns", "experiment": None, "flush_s": 2.0}
BOTH = {"MLFLOW_TRACKING_URI": "http://me:secret@h:5000", "MLFLOW_EXPERIMENT_NAME": "anna"}


def test_both_are_taken_where_the_configuration_leaves_them_open() -> None:
    found = settled(OPEN, (), BOTH)
    assert found.values == {**OPEN, "uri": "http://me:secret@h:5000", "experiment": "anna"}
    assert "recorded in http://me:***@h:5000 (MLFLOW_TRACKING_URI)" in found.notes[0]
    assert "experiment 'anna' (MLFLOW_EXPERIMENT_NAME)" in found.notes[1]
    assert found.warnings == ()


@pytest.mark.parametrize("variables", [{}, {"MLFLOW_TRACKING_URI": "", "MLFLOW_EXPERIMENT_NAME": ""}])
def test_without_them_it_is_sqlite_and_our_own_experiment(variables: dict[str, str]) -> None:
    found = settled(OPEN, (), variables)
    assert (found.values["uri"], found.values["experiment"], found.notes) == (None, "lora-foundry", ())


def test_what_the_configuration_says_comes_first() -> None:
    said = {**OPEN, "uri": "sqlite:///my.db", "experiment": "mine"}
    assert settled(said, ("tracking.uri",), BOTH).values == said
    assert settled(said, (), BOTH).notes == ()
    folder = settled({**OPEN, "root": "/data"}, ("tracking.root",), BOTH)
    assert folder.values["uri"] is None
    assert "in tracking.root=/data, not in http://me:***@h:5000 (MLFLOW_TRACKING_URI)" in folder.notes[0]


def test_what_is_set_and_not_taken_is_warned_of() -> None:
    found = settled(OPEN, (), {"MLFLOW_RUN_ID": "abc", "MLFLOW_EXPERIMENT_ID": "3", "MLFLOW_REGISTRY_URI": "x"})
    assert sorted(one.text.split(":")[0] for one in found.warnings) == [
        "MLFLOW_EXPERIMENT_ID=3 is not used",
        "MLFLOW_RUN_ID=abc is not used",
    ]
    assert {one.topic for one in found.warnings} == {"mlflow"}


@pytest.mark.parametrize("values", [{**OPEN, "enabled": False}, None, "text", {"enabled": "yes"}])
def test_where_nothing_is_recorded_or_nothing_is_sound_nothing_changes(values: object) -> None:
    found = settled(values, (), {**BOTH, "MLFLOW_RUN_ID": "abc"})
    assert (found.values, found.notes, found.warnings) == (values, (), ())


def test_the_sweeps_run_is_called_as_the_environment_says_unless_something_else_is_said() -> None:
    named = {"MLFLOW_RUN_NAME": "tuesday"}
    found = settled(OPEN, (), named)
    assert found.values["run_name"] == "tuesday"
    assert found.notes[-1].endswith("'tuesday' (MLFLOW_RUN_NAME)")
    assert settled({**OPEN, "run_name": "mine"}, (), named).values["run_name"] == "mine"
