"""What a job draws: written prompts, or captions of its held-out images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lora_foundry.config.besides import DRAWN_BY_DEFAULT
from lora_foundry.config.warned import Warned
from lora_foundry.data.records import prefixed

if TYPE_CHECKING:
    from lora_foundry.config.schema import DataConfig, JobConfig

_SHOWN = 3


def prompts_of(config: JobConfig, held_out: Sequence[str]) -> tuple[str, ...]:
    """The prompts, in the order in which they are drawn.

    Args:
        config: The job's.
        held_out: Captions of its held-out images as the base sees them, at least one.

    Returns:
        ``sample.prompts`` as written (with ``sample.with_prefix`` behind the trigger word); where there are none, the
        held-out captions that ``data.prompts`` names, or else the first few.
    """
    sample, data = config.sample, config.data
    if sample.prompts:
        texts = [prefixed(text, data.caption_prefix) if sample.with_prefix else text for text in sample.prompts]
    else:
        texts = _named(data, held_out) or list(dict.fromkeys(held_out))[:DRAWN_BY_DEFAULT]
    return tuple(texts)


def prompt_warnings(
    config: JobConfig, held_out: Sequence[str], count_tokens: Callable[[str], int], max_tokens: int
) -> list[Warned]:
    """What the user is warned of before anything is drawn.

    Args:
        config: The job's.
        held_out: As :func:`prompts_of` takes them.
        count_tokens: Tokens of a text as the base counts them uncut, special tokens included.
        max_tokens: Most tokens that the text encoder takes.
    """
    if not config.sample.enabled:
        return []
    return [*_passed_over(config, held_out), *_too_long(config, held_out, count_tokens, max_tokens)]


def _named(data: DataConfig, held_out: Sequence[str]) -> list[str]:
    known = set(held_out)
    return [text for one in data.prompts if (text := prefixed(one, data.caption_prefix)) in known]


def _passed_over(config: JobConfig, held_out: Sequence[str]) -> list[Warned]:
    data = config.data
    if config.sample.prompts or not data.prompts or len(_named(data, held_out)) == len(data.prompts):
        return []
    strange = [one for one in data.prompts if prefixed(one, data.caption_prefix) not in set(held_out)]
    text = (
        f"data.prompts: {len(strange)} of {len(data.prompts)} are captions of no held-out image ({_few(strange)}) and "
        "are not drawn; sample.prompts draws any text"
    )
    return [Warned(topic="prompts", text=text)]


def _too_long(
    config: JobConfig, held_out: Sequence[str], count_tokens: Callable[[str], int], max_tokens: int
) -> list[Warned]:
    """Captions are counted with the data; here only what was written as a prompt."""
    if not config.sample.prompts:
        return []
    lengths = {text: count_tokens(text) for text in prompts_of(config, held_out)}
    long = [f"{text[:30]}...: {count}" for text, count in lengths.items() if count > max_tokens]
    if not long:
        return []
    text = (
        f"{len(long)} of sample.prompts are longer than the tokenizer's {max_tokens} tokens and are cut ({_few(long)})"
    )
    return [Warned(topic="prompts", text=text)]


def _few(texts: Sequence[str]) -> str:
    return "; ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
