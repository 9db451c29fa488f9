"""What MLflow's pages say beside their charts: its axis is called Step and shows samples."""

from __future__ import annotations

from collections.abc import Callable

from lora_foundry.config.schema import TrackingConfig
from lora_foundry.tracking import SweepWriter
from lora_foundry.tracking.notes import AXIS, NOTE
from tests.tracking.fake_sweep import Recorded, Sweep


def test_each_run_and_the_experiment_say_what_step_is_as_it_is_recorded(
    make_sweep: Callable[..., Sweep], record: Callable[..., SweepWriter], tracking: TrackingConfig
) -> None:
    sweep = make_sweep(jobs=1)
    sweep.state(0, "RUNNING")
    sweep.metrics(0, 3)  # batches of four
    record(sweep, {0: "FINISHED"})
    recorded = Recorded(sweep)
    assert recorded.steps(0, "train/loss") == [12], "samples"
    assert [
        metric.value for metric in recorded.client.get_metric_history(recorded.children[0].info.run_id, "train/step")
    ]
    assert "Step on the axis of a chart is samples" in AXIS
    for run in recorded.runs:
        assert run.data.tags[NOTE] == AXIS
    experiment = recorded.client.get_experiment_by_name(str(tracking.experiment))
    assert experiment is not None
    assert experiment.tags[NOTE] == AXIS
