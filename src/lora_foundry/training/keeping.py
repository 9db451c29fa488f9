"""The best adapters of a member: which they are, and which of their files may go.

A kill may come at any moment, and the member then goes on from a checkpoint that is older than its files. So what is no
longer among the best is removed once no checkpoint names it, and ``best.json`` always names a file that is there.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lora_foundry.config.best import score
from lora_foundry.config.files import write_json
from lora_foundry.training.member import Kept

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lora_foundry.training.member import Member
    from lora_foundry.training.validation import Score

ADAPTER = "adapter"
"""Folder of a job's exported adapters."""
BEST = "best"
"""Folder in it of those that were exported for their score alone."""
MARK = "best.json"
"""File in it that names the best."""
_STEP = re.compile(r"-step(\d+)\.[^-]+$")


def is_among_best(member: Member, found: Score) -> bool:
    """Whether the adapter as it is now, with the score ``found``, is to be exported for it; of equals the first is."""
    most, others = member.config.trainer.keep_best, _others(member, member.count.step)
    if most is None or member.count.step == 0 or score(found.relative) is None or _learns_from_all(member):
        return False
    return len(others) < most or found.relative < others[most - 1].relative


def keep(member: Member, found: Score, files: Sequence[Path], averaged: int | None = None) -> None:
    """Enter the adapter as it is now, exported as ``files``, among the best if it is, and say so in ``best.json``.

    Args:
        member: Whose adapter it is.
        found: Its score.
        files: The first is for people's programs, the last is its card.
        averaged: Of how many adapters it is the mean.

    Raises:
        OSError: When ``best.json`` cannot be written; the best are those of before then.
    """
    if score(found.relative) is None:
        return
    names = _names(member, files)
    step, loss, relative = member.count.step, found.loss, found.relative
    new = Kept(step=step, loss=loss, relative=relative, files=names, averaged=averaged, drift=found.drift)
    _enter(member, new)


def put_by(member: Member, files: Sequence[Path]) -> None:
    """The last adapter of before lies in ``files`` now too, since the member trains longer: there it stays.

    Raises:
        OSError: As :func:`keep`.
    """
    count = member.count
    (was,) = (one for one in count.kept if one.step == count.step and is_last(one))
    _enter(member, replace(was, files=_names(member, files)))


def is_last(one: Kept) -> bool:
    """Whether it lies where the next end of a training writes."""
    return "/" not in one.files[0]


def settle(member: Member) -> None:
    """Before its first step here: what is there of the best that its checkpoint names; of a new life none is.

    Raises:
        OSError: When ``best.json`` cannot be written or removed.
    """
    folder, count = member.folder / ADAPTER, member.count
    count.kept = [one for one in count.kept if all((folder / name).is_file() for name in one.files)]
    member.saved = tuple(count.kept)
    if count.kept:
        _mark(member)
    else:
        (folder / MARK).unlink(missing_ok=True)


def tidy(member: Member, spared: Sequence[Kept] = ()) -> None:
    """Remove files of adapters that are no longer among the best.

    Those of a later step stay: a kill threw the member back, and it comes to that step again.

    Args:
        member: Whose files they are.
        spared: Adapters that a checkpoint still names.
    """
    folder = member.folder / ADAPTER
    named = {folder / name for one in (*member.count.kept, *spared) for name in one.files}
    found = [path for path in (folder / BEST).rglob("*") if path not in named]
    for path in found:
        step = _STEP.search(path.name)
        if step is not None and int(step[1]) <= member.count.step:
            path.unlink(missing_ok=True)
    for path in (*(path for path in found if path.is_dir()), folder / BEST):
        with suppress(OSError):  # not empty, or not there
            path.rmdir()


def _names(member: Member, files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(path.relative_to(member.folder / ADAPTER).as_posix() for path in files)


def _enter(member: Member, new: Kept) -> None:
    before = member.count.kept
    every = [*_others(member, new.step, new.averaged), new]
    if _learns_from_all(member):
        ranked = sorted(every, key=lambda one: (-one.step, one.averaged is not None))
    else:
        ranked = sorted(every, key=lambda one: (one.relative, one.step))  # of equals the first
    member.count.kept = ranked[: member.config.trainer.keep_best or 1]
    try:
        _mark(member)
    except OSError:
        member.count.kept = before
        raise


def _learns_from_all(member: Member) -> bool:
    """Whether no fold is held out: by its losses nothing can be chosen, so that the last is the best."""
    return member.config.data.fold == "all"


def _mark(member: Member) -> None:
    kept = member.count.kept
    write_json(member.folder / ADAPTER / MARK, {**_told(kept[0]), "kept": [_told(one) for one in kept]})


def _others(member: Member, step: int, averaged: int | None = None) -> list[Kept]:
    return [one for one in member.count.kept if (one.step, one.averaged) != (step, averaged)]


def _told(one: Kept) -> dict[str, object]:
    told = {"step": one.step, "val_loss": one.loss, "val_loss_rel": one.relative, "file": one.files[0]}
    more = {"averaged": one.averaged, "val_drift": one.drift}
    return told | {name: value for name, value in more.items() if value is not None}
