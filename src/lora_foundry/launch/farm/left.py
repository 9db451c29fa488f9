"""What a launcher that is gone left of a sweep: the options that it began with, and the end that it did not come to."""

from __future__ import annotations

import os
from pathlib import Path

from lora_foundry.config.launcher import Settings
from lora_foundry.config.quoting import override
from lora_foundry.launch.farm.book import Book
from lora_foundry.launch.farm.farm import Farm
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.launch.points.argv import arrange
from lora_foundry.launch.points.driving import drive
from lora_foundry.launch.records.reading import read_state
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.launch.records.resume import Resumed, readable_jobs
from lora_foundry.launch.records.search import read_search
from lora_foundry.launch.records.stored_jobs import stored_launcher
from lora_foundry.launch.screen.planboard import say

_NOTE = "its workers ended every job after its launcher had gone: only the end is made up for"


def settings_of(resumed: Resumed) -> Settings:
    """The launcher's options that a sweep began with.

    Raises:
        SweepError: When one of them is wrong.
    """
    stored = stored_launcher(resumed.jobs)
    if stored is None:
        say(["The launcher's options cannot be read (.hydra/hydra.yaml of the jobs): it goes on with the defaults"])
    settings = stored or Settings()
    settings.check()
    return settings


def go_on_searching(sweep_dir: Path) -> None:
    """Go on with a search, by the command line that began it and from the folder that it was typed in.

    Raises:
        SweepError: When its record cannot be read, or the command line says something else now.
    """
    os.chdir(read_sweep(sweep_dir).start())
    drive(arrange([*read_search(sweep_dir).words, override("hydra.sweep.dir", sweep_dir)]))


def make_up_for_the_end(sweep_dir: Path, outside: Outside) -> bool:
    """Give a sweep its results, picture and runs' ends whose workers ended every job after its launcher was killed.

    Returns:
        Whether that was left to do.

    Raises:
        SweepError: When another process works in it, or its record cannot be read.
    """
    sweep = read_sweep(sweep_dir)
    jobs = [] if read_state(sweep_dir, stored=sweep).settled else readable_jobs(sweep_dir)
    if not jobs:
        return False
    Farm.ended(Book.reopen(sweep_dir, sweep), jobs, outside, _NOTE).train()
    return True
