"""How the sweep of this process ended; Hydra's multirun returns nothing to its caller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lora_foundry.config.ending import INTERRUPTED
from lora_foundry.wire.states import AS_MEANT, State

OK, FAILED, WRONG_INPUT = 0, 1, 2


@dataclass(slots=True)
class Outcome:
    """The exit code that ``src.train`` ends with.

    Attributes:
        exit_code: 0 when every job ended as it was meant to, 1 when one failed, 2 for wrong input, 130 after an
            interrupt.
        sweep_dir: The folder of the last sweep that came to its end; null while there is none.
    """

    exit_code: int = OK
    sweep_dir: Path | None = None

    def worsen(self, code: int) -> None:
        """Keep the weightier of what was and ``code``."""
        self.exit_code = max(self.exit_code, code)


OUTCOME = Outcome()


def code_of(states: Iterable[State], *, interrupted: bool = False) -> int:
    """What a sweep's process ends with whose jobs ended so."""
    if interrupted:
        return INTERRUPTED
    return OK if all(state in AS_MEANT for state in states) else FAILED
