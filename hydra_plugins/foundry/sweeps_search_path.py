"""Named sweeps: ``sweeps/`` on Hydra's search path, from any folder."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class SweepsSearchPath(SearchPathPlugin):
    """Makes ``sweep=rank_batch`` find ``sweeps/sweep/rank_batch.yaml``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the project's ``sweeps/``."""
        from src.config.paths import PROJECT_ROOT  # noqa: PLC0415 - imported at every start of Hydra: late

        search_path.append(provider="lora-foundry", path=f"file://{PROJECT_ROOT / 'sweeps'}")
