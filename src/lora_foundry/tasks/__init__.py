"""What is learned from rows, behind one protocol: read :mod:`lora_foundry.tasks.protocol` first.

Other rooms use of it:

- ``denoising.preparing``: from checked images to what members learn from, and images as a base's encoder sees them;
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
