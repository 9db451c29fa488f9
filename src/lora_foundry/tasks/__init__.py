"""What is learned from rows, behind one protocol: read :mod:`lora_foundry.tasks.protocol` first."""

from lora_foundry.tasks.protocol import (
    Files,
    FixedRows,
    Ground,
    Inputs,
    Judged,
    Showing,
    Shown,
    StepRows,
    Task,
    Trainee,
)

__all__ = ["Files", "FixedRows", "Ground", "Inputs", "Judged", "Showing", "Shown", "StepRows", "Task", "Trainee"]
