"""What is learned from rows, behind one protocol: read :mod:`lora_foundry.tasks.protocol` first.

Other rooms use of it:

- ``denoising.task``: denoising latents, as a task;
- ``metrics``: what is measured of a member on its fixed rows, a file each;
- ``opening``: from a base's files to the task that is learned on it;
- ``protocol``: what a task offers to a pack.
"""

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
