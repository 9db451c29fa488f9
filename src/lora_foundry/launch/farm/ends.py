"""How jobs end: the one place that says what their last state is, whoever brought it about."""

from __future__ import annotations

from collections.abc import Sequence

from lora_foundry.launch.farm.news import News
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.stored_jobs import has_checkpoint
from lora_foundry.launch.screen.live import Screen
from lora_foundry.wire.events import StateEvent
from lora_foundry.wire.journal import JobLine
from lora_foundry.wire.states import ENDED, State
from lora_foundry.wire.summary import Summary


class Ends:
    """Journals each job's state, shows it, and passes ends on.

    Args:
        journal: The sweep's open journal.
        screen: Where the user is told.
        news: Takes ends for whoever offered the jobs.
    """

    def __init__(self, journal: Journal, screen: Screen, news: News) -> None:
        self._journal = journal
        self._screen = screen
        self._news = news

    def told(self, job: LiveJob, event: StateEvent) -> None:
        """A worker told it; what was told before, or comes after an end, changes nothing."""
        if event.state not in ("PENDING", job.state) and not job.ended:
            self._settle(job, event.state, error=event.error, summary=event.summary)

    def lost(self, jobs: Sequence[LiveJob], why: str, *, interrupted: bool) -> None:
        """Whoever trained them is gone, or has nothing to say of them."""
        for job in jobs:
            if interrupted:
                self._settle(job, "KILLED", error="interrupted")
            else:
                self._settle(job, "FAILED", error=why)

    def left(self, job: LiveJob, how: str) -> None:
        """It will not train, and no worker has it; it may have trained, in a pack that was cut."""
        when = "while it waited to go on" if has_checkpoint(job.record.dir) else "before it started"
        self._settle(job, "KILLED", error=f"{how} {when}")

    def stranded(self, jobs: Sequence[LiveJob], why: str) -> None:
        """Nothing can train them now, which is said once; nothing is wrong with them."""
        for job in jobs:
            self._settle(job, "KILLED", error=why, aloud=False)

    def asked(self, jobs: Sequence[LiveJob]) -> list[LiveJob]:
        """Ends those that were asked to end, since whoever was told so is gone; returns the others that have no end."""
        for job in jobs:
            if job.stopping or job.pruning:
                self._settle(job, "KILLED", error="stopped on request")
        return [job for job in jobs if not job.ended]

    def again(self, job: LiveJob) -> None:
        """It waits once more, and goes on from its last checkpoint where there is one."""
        job.resume = has_checkpoint(job.record.dir)
        self._settle(job, "PENDING")

    def _settle(
        self,
        job: LiveJob,
        state: State,
        *,
        error: str | None = None,
        summary: Summary | None = None,
        aloud: bool = True,
    ) -> None:
        """Who is to be pruned is PRUNED whatever ends it first: nobody wants it back."""
        if job.pruning and state == "KILLED":
            state, error = "PRUNED", None
        if state in ENDED:
            for line in job.now.judged_lines():
                self._journal.write(line)
        self._journal.write(JobLine(job=job.record.index, state=state, error=error, summary=summary))
        if state in ENDED:
            self._news.ended(job.record.index)
        if state != "PENDING" and aloud:
            self._screen.changed(job)
