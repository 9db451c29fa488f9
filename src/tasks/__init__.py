"""What is learned from rows, behind one protocol: read :mod:`src.tasks.protocol` first."""

from src.tasks.protocol import Files, FixedRows, Ground, Inputs, Showing, Shown, StepRows, Task, Trainee

__all__ = ["Files", "FixedRows", "Ground", "Inputs", "Showing", "Shown", "StepRows", "Task", "Trainee"]
