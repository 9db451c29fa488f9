"""What MLflow's pages say of an experiment and of each run, beside their charts."""

from __future__ import annotations

NOTE = "mlflow.note.content"
"""The tag that the pages show as a description."""
AXIS = (
    "**Step on the axis of a chart is samples: training images seen so far**, so that curves of different batch sizes "
    "line up. The optimizer's own steps are the metric `train/step`."
)
"""MLflow calls the axis Step, and has no place of its own to say what one is."""
