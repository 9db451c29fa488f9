"""Early ends in a grid: its jobs are trials that nobody searched for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from optuna.trial import Trial, TrialState

from lora_foundry.config.schema_results import LOSS
from lora_foundry.search.reports import Reports
from lora_foundry.search.study import in_memory

if TYPE_CHECKING:
    from lora_foundry.config.launcher import Settings
    from lora_foundry.launch.farm.farm import Farm
    from lora_foundry.wire.outcomes import JobOutcome
    from lora_foundry.wire.states import State

COMPARED = f"val/{LOSS}_rel"
"""What adapters are compared by."""
_ENDS: Mapping[State, TrialState] = {"FINISHED": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED}


class Watch:
    """Implements :class:`lora_foundry.launch.farm.news.Listener`: prunes, and offers nothing.

    Args:
        settings: Which pruner there is, and what it goes by.
        farm: Whose jobs these are.
    """

    def __init__(self, settings: Settings, farm: Farm) -> None:
        self._study = in_memory(("maximize" if settings.prune_maximize else "minimize",))
        self._reports = Reports(self._study, settings, farm)
        self._metric = settings.prune_on or COMPARED
        self._farm = farm
        self._trials: dict[int, Trial] = {}
        self._last: dict[int, float] = {}

    def tell(self, job: int, samples: int, values: Mapping[str, object]) -> None:
        """See the protocol."""
        value = values.get(self._metric)
        if isinstance(value, (int, float)):
            self._last[job] = float(value)
            if self._reports.report(self._trial(job), job, samples, value):
                self._farm.prune(job)

    def ended(self, outcome: JobOutcome) -> None:
        """See the protocol."""
        state = _ENDS.get(outcome.state, TrialState.FAIL)
        known = self._last.get(outcome.job)
        if state is TrialState.COMPLETE and known is None:
            state = TrialState.FAIL
        values = known if state is TrialState.COMPLETE else None
        self._study.tell(self._trial(outcome.job), values, state=state, skip_if_finished=True)

    def look(self) -> None:
        """See the protocol."""

    def _trial(self, job: int) -> Trial:
        if job not in self._trials:
            self._trials[job] = self._study.ask()
        return self._trials[job]
