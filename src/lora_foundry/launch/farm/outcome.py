"""How the sweep of this process ended; Hydra's multirun returns nothing to its caller."""

from __future__ import annotations

from dataclasses import dataclass

OK, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclass(slots=True)
class Outcome:
    """The exit code that ``src.train`` ends with.

    Attributes:
        exit_code: 0 when every job finished, 1 when one failed, 2 for wrong input, 130 after an interrupt.
    """

    exit_code: int = OK

    def worsen(self, code: int) -> None:
        """Keep the weightier of what was and ``code``."""
        self.exit_code = max(self.exit_code, code)


OUTCOME = Outcome()
