"""Rules and warnings about images, captions and prompts."""

from __future__ import annotations

from lora_foundry.config.schema import DataConfig, JobConfig, SampleConfig
from lora_foundry.config.warned import Warned

_SHIPPED = "assets/"
_SHOWN = 2  # prompts in a warning; the rest is counted


def prompts(sample: SampleConfig) -> list[str]:
    """The empty prompt is drawn for guidance only."""
    if sample.enabled and any(not prompt.strip() for prompt in sample.prompts):
        return [f"sample.prompts: got {list(sample.prompts)}, allowed are texts, none of them empty"]
    return []


def folds(data: DataConfig) -> list[str]:
    """A fold is one of several, which divide one folder."""
    if data.folds is None:
        wrong = [key for key in ("fold", "refit") if getattr(data, key) not in (None, False)]
        return [f"data.{key}: is about data.folds, which is null; give a number of folds" for key in wrong]
    problems = []
    if data.val_path is not None:
        problems.append(
            f"data.folds={data.folds} with data.val_path={data.val_path}: each fold holds out its own part of "
            "data.path; add data.val_path=null"
        )
    if isinstance(data.fold, int) and data.fold >= data.folds:
        problems.append(f"data.fold: got {data.fold}, allowed is from 0 to {data.folds - 1} (data.folds), or all")
    return problems


def data_warnings(job: JobConfig) -> list[Warned]:
    """What a sound job is warned of before its data is looked at."""
    return [*_fit_alone(job.data), *_of_the_demo(job.data), *_without_trigger(job)]


def _fit_alone(data: DataConfig) -> list[Warned]:
    if data.val_path is not None or data.val_fraction > 0 or data.folds is not None:
        return []
    text = (
        "data.val_fraction=0: no image is held out, so val/loss is taken on the images that are trained on and "
        "measures fit alone: it goes on falling while an adapter learns its images by heart"
    )
    return [Warned(topic="fit-alone", text=text)]


def _of_the_demo(data: DataConfig) -> list[Warned]:
    """``data.path`` alone leaves the demo's held-out drawings where they are."""
    if data.path.startswith(_SHIPPED) or not (data.val_path or "").startswith(_SHIPPED):
        return []
    text = (
        f"data.path={data.path} is judged on the demo's held-out drawings (data.val_path={data.val_path}); "
        "data=folder beside data.path holds out a tenth of its own"
    )
    return [Warned(topic="demo-data", text=text)]


def _without_trigger(job: JobConfig) -> list[Warned]:
    """A prompt without the trigger word shows little of what was learned."""
    word = job.data.caption_prefix.strip(" ,.;:").casefold()
    sample = job.sample
    if not word or not sample.enabled or sample.with_prefix:
        return []
    bare = [prompt for prompt in sample.prompts if word not in prompt.casefold()]
    if not bare:
        return []
    more = f" and {len(bare) - _SHOWN} more" if len(bare) > _SHOWN else ""
    text = (
        f"sample.prompts are drawn as written: {len(bare)} of {len(sample.prompts)} without data.caption_prefix "
        f"{job.data.caption_prefix.strip()!r} ({'; '.join(bare[:_SHOWN])}{more}); "
        "sample.with_prefix=true puts it in front"
    )
    return [Warned(topic="trigger", text=text)]
