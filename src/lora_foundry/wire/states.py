"""The states of a job."""

from __future__ import annotations

from typing import Literal, get_args

End = Literal["FINISHED", "FAILED", "KILLED"]
State = Literal["PENDING", "RUNNING", "FINISHED", "FAILED", "KILLED"]

ENDED: tuple[End, ...] = get_args(End)
"""Those after which nothing comes, unless somebody resumes the job."""
