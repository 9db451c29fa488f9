"""No job ends early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.pruners import Pace, PrunerChoice

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from lora_foundry.config.launcher import Settings


class _None(PrunerChoice):
    def build(self, settings: Settings, pace: Pace) -> BasePruner | None:  # noqa: ARG002
        return None


CHOICE = _None()
