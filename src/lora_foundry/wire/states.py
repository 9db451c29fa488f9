"""The states of a job."""

from __future__ import annotations

from typing import Literal, get_args

End = Literal["FINISHED", "FAILED", "KILLED", "PRUNED"]
State = Literal["PENDING", "RUNNING", "FINISHED", "FAILED", "KILLED", "PRUNED"]

ENDED: tuple[End, ...] = get_args(End)
"""Those after which nothing comes, unless somebody resumes the job."""

AS_MEANT: tuple[End, ...] = ("FINISHED", "PRUNED")
"""Those of a job that ended as it was meant to: it is not trained again, and no exit code complains of it. A PRUNED one
was ended early by whoever offered it, since going on with it was not worth its place."""
