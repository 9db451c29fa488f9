"""MLflow: a sweep's spool becomes runs, by one writer, each event exactly once.

Other rooms use of it:

- ``addresses``: MLflow's addresses of stores and artifacts, and the paths in them;
- ``checking``: whether a store can take runs, seen without MLflow;
- ``environment``: MLflow's own variables, where the configuration does not say where runs are recorded;
- ``errors``: what can go wrong between a spool and MLflow, sorted by whether waiting helps;
- ``orphans``: runs that a crash left RUNNING: set right by whoever records next;
- ``processes``: whether the process that started a sweep still lives;
- ``records``: what the launcher tells tracking about a job;
- ``store``: opening MLflow;
- ``trackfile``: ``tracking.json``.
"""

from __future__ import annotations

from lora_foundry.tracking.errors import TrackingError
from lora_foundry.tracking.records import JobRecord
from lora_foundry.tracking.writer import SweepWriter

__all__ = ["JobRecord", "SweepWriter", "TrackingError"]
