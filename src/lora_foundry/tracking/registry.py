"""A sweep's winner as a version of a model in MLflow's registry, for whoever asks there which adapter to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "best"
_EXISTS = "RESOURCE_ALREADY_EXISTS"
# What a registry answers that is not there, or that this user may not write to: trying again changes nothing.
_FOR_GOOD = ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "ENDPOINT_NOT_FOUND", "FEATURE_DISABLED", "BAD_REQUEST")


def register(
    client: MlflowClient, name: str, *, run_id: str, folder: PurePosixPath, about: str, tags: Mapping[str, str]
) -> str | None:
    """Make a version of the model ``name`` of a run's adapter, and give it the alias ``best``; once for each adapter.

    Args:
        client: MLflow's.
        name: The model's; made where there is none.
        run_id: The winner's run, which has the adapter as an artifact.
        folder: Of the run's artifacts, with the adapter's files.
        about: The version's description.
        tags: The version's.

    Returns:
        Why the registry takes nothing; null when it has the version.

    Raises:
        mlflow.exceptions.MlflowException: When the registry cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    try:
        _make(client, name)
        source = f"{client.get_run(run_id).info.artifact_uri}/{folder}"
        version = _found(client, name, run_id, source)
        if version is None:
            made = client.create_model_version(
                name, source, run_id, tags=dict(tags), description=about, await_creation_for=0
            )
            version = str(made.version)
        client.set_registered_model_alias(name, ALIAS, version)
    except MlflowException as error:
        if error.error_code in _FOR_GOOD:
            return f"the winner is not registered as {name!r}: {error}"
        raise
    return None


def _make(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != _EXISTS:
            raise


def _found(client: MlflowClient, name: str, run_id: str, source: str) -> str | None:
    """The version that an earlier end of the sweep made of the same adapter."""
    for one in client.search_model_versions(f"run_id = '{run_id}'"):
        if one.name == name and one.source == source:
            return str(one.version)
    return None
