"""Named sweeps, and a user's own configs, on Hydra's search path from any folder."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.plugins.search_path_plugin import SearchPathPlugin


class SweepsSearchPath(SearchPathPlugin):
    """Makes ``sweep=rank_batch`` find ``sweeps/sweep/rank_batch.yaml``, and ``experiment=mine`` one of the user's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the project's ``sweeps/``; the folder that the environment names comes before the project's."""
        from lora_foundry.config.paths import SHIPPED, own_configs

        search_path.append(provider="lora-foundry", path=f"file://{SHIPPED / 'sweeps'}")
        for folder in own_configs():
            anchor = SearchPathQuery(provider="schema")
            search_path.prepend(provider="lora-foundry", path=f"file://{folder}", anchor=anchor)
