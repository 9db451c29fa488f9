"""MLflow's own variables, where the configuration does not say where runs are recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lora_foundry.config.warned import Warned
from lora_foundry.tracking.addresses import EXPERIMENT, shown

URI = "MLFLOW_TRACKING_URI"
NAME = "MLFLOW_EXPERIMENT_NAME"
RUN_NAME = "MLFLOW_RUN_NAME"
_TOPIC = "mlflow"
# Each is the name of one thing that MLflow's fluent calls would take, and that a sweep makes for itself.
_UNUSED = {
    "MLFLOW_EXPERIMENT_ID": f"name the experiment instead ({NAME}, or tracking.experiment)",
    "MLFLOW_RUN_ID": "the sweep and each of its jobs get runs of their own",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Where runs go, and what the user is told of it.

    Attributes:
        values: The ``tracking`` group with nothing left to the environment; it is what a later resume reads.
        notes: What was taken from the environment.
        warnings: What is set there and was not taken.
    """

    values: Any
    notes: tuple[str, ...] = ()
    warnings: tuple[Warned, ...] = ()


def settled(values: Any, said: Collection[str], variables: Mapping[str, str]) -> Recording:  # noqa: ANN401 - not parsed
    """Fill in what the configuration leaves open.

    Args:
        values: The composed ``tracking`` group, not checked yet.
        said: Keys that the command line set: a folder that was named there comes before the environment's server.
        variables: The environment.
    """
    if not isinstance(values, dict) or values.get("enabled") is not True:
        return Recording(values=values)
    uri, name = variables.get(URI), variables.get(NAME)
    filled, notes = dict(values), []
    if uri and values.get("uri") is None and "tracking.root" not in said:
        filled["uri"] = uri
        notes.append(f"runs are recorded in {shown(uri)} ({URI})")
    elif uri and values.get("uri") is None:
        notes.append(f"runs are recorded in tracking.root={values.get('root')}, not in {shown(uri)} ({URI})")
    if values.get("experiment") is None:
        filled["experiment"] = name or EXPERIMENT
        notes += [f"runs go to the experiment {name!r} ({NAME})"] if name else []
    if variables.get(RUN_NAME) and values.get("run_name") is None:
        filled["run_name"] = variables[RUN_NAME]
        notes.append(f"the sweep's run is called {variables[RUN_NAME]!r} ({RUN_NAME})")
    unused = {key: why for key, why in _UNUSED.items() if variables.get(key)}
    warnings = [Warned(topic=_TOPIC, text=f"{key}={variables[key]} is not used: {why}") for key, why in unused.items()]
    return Recording(values=filled, notes=tuple(notes), warnings=tuple(warnings))
