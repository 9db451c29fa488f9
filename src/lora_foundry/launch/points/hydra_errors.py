"""What Hydra and OmegaConf refuse, said in one line, without their advice that does not hold here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lora_foundry.config.errors import SweepError
from lora_foundry.config.hints import choices_with, known_keys
from lora_foundry.config.parse import key_hint
from lora_foundry.launch.points.hydra_keys import hydra_keys

COMPOSING = (
    *(HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, RecursionError, RuntimeError, UserWarning),
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError),
)
"""What composing raises for wrong input: Hydra and OmegaConf check little of what they are given before they use it."""

_ADVICE = (*("To append to your", "Set the environment variable", "object_type=", "reference_type="),)
_REST_IS_PATHS = ("Config search path", "Search path")
_RAISED = re.compile(r": \w+Error raised while composing config:; ")
_FULL_KEY = re.compile(r"full_key: (\S+)")
_UNKNOWN = re.compile(r"Key '[^']*' (is not in struct|not in '\w+')")
_SECOND_CHOICE = re.compile(r"Multiple values for (\S+?)\. To override a value use .*")


@contextmanager
def composing() -> Iterator[None]:
    """Whatever composing raises within is a :class:`~lora_foundry.config.errors.SweepError` with one line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*is not available", UserWarning)  # a place of the search path
            yield
    except SweepError:
        raise
    except COMPOSING as error:
        raise SweepError([in_a_line(error)]) from error


def in_a_line(error: BaseException) -> str:
    """The message of ``error`` and of what it came from, on one line, with the nearest right key for a wrong one."""
    lines: list[str] = []
    for one in (error, error.__cause__):
        if isinstance(one, BaseException):
            lines += [line for line in _lines(str(one)) if line not in lines]
    text = _RAISED.sub(": ", "; ".join(lines))
    text = _SECOND_CHOICE.sub(r"\1: the group has a choice already; write it without the +", text)
    key = _FULL_KEY.search(text)
    if key is not None:
        having = choices_with(key[1])
        hint = (
            f" here; it is an option of {', '.join(having)}"
            if having
            else key_hint(key[1], [*known_keys(), *hydra_keys()])
        )
        text = _UNKNOWN.sub(f"{key[1]}: no such key{hint}", text.replace(f"; {key[0]}", ""))
    return text or type(error).__name__


def _lines(message: str) -> list[str]:
    kept: list[str] = []
    for raw in message.splitlines():
        line = raw.strip()
        if line.startswith(_REST_IS_PATHS):
            break
        if line in ("", "full_key:") or line.startswith(_ADVICE):
            continue
        if raw.startswith("\t") and kept:  # an entry of the list that the line before announces
            kept[-1] += f" {line}" if kept[-1].endswith(":") else f", {line}"
        else:
            kept.append(line.rstrip("."))
    return kept
