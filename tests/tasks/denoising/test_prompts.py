"""What is drawn: written prompts, or captions of held-out images; and what is warned of."""

from __future__ import annotations

import pytest

from lora_foundry.config import JobConfig
from lora_foundry.config.compose import compose_job
from lora_foundry.tasks.denoising.preparing import _unjudged
from lora_foundry.tasks.denoising.prompts import prompt_warnings, prompts_of

HELD_OUT = ["anna on a bench", "anna by the sea", "anna on a bench", "anna reads", "anna sleeps", "anna at work"]


def job(*words: str) -> JobConfig:
    return compose_job("data=folder", "data.path=photos", *words)


def warned(config: JobConfig, held_out: list[str], most: int = 77) -> list[str]:
    return [one.text for one in prompt_warnings(config, held_out, lambda text: len(text.split()) + 2, most)]


@pytest.mark.slow
def test_a_folder_of_ones_own_draws_its_held_out_captions_and_no_red_heart() -> None:
    assert prompts_of(job(), HELD_OUT) == ("anna on a bench", "anna by the sea", "anna reads", "anna sleeps")
    assert warned(job(), HELD_OUT) == []


@pytest.mark.slow
def test_the_demo_draws_subjects_that_tell_something() -> None:
    held_out = ["pizza", "cat face", "red heart", "bear face", "rocket", "house building"]
    for style in ("emoji-flat", "emoji-duotone"):
        drawn = prompts_of(compose_job(f"data={style}"), held_out)
        assert drawn == ("red heart", "cat face", "bear face", "house building")


@pytest.mark.slow
def test_the_demos_subjects_are_left_out_where_they_are_no_captions_and_that_is_said() -> None:
    own = compose_job("data.path=photos", "data.val_path=null")  # without data=folder
    assert prompts_of(own, HELD_OUT) == prompts_of(job(), HELD_OUT)
    (line,) = warned(own, HELD_OUT)
    assert "data.prompts: 4 of 4 are captions of no held-out image (red heart; cat face; bear face and 1 more)" in line


@pytest.mark.slow
def test_the_trigger_word_is_in_what_is_drawn_by_default() -> None:
    config = job("data.caption_prefix=sks", "data.prompts=[anna reads, nobody]")
    captions = [f"sks {text}" for text in HELD_OUT]
    assert prompts_of(config, captions) == ("sks anna reads",)
    assert "1 of 2" in warned(config, captions)[0]


@pytest.mark.slow
def test_written_prompts_are_drawn_as_written_or_behind_the_trigger_word_on_request() -> None:
    written = job("data.caption_prefix=sks", "sample.prompts=[a cat, a sks dog]")
    assert prompts_of(written, HELD_OUT) == ("a cat", "a sks dog")
    behind = job("data.caption_prefix=sks", "sample.prompts=[a cat]", "sample.with_prefix=true")
    assert prompts_of(behind, HELD_OUT) == ("sks a cat",)


@pytest.mark.slow
def test_written_prompts_over_the_tokenizers_length_are_counted() -> None:
    long = job(f"sample.prompts=[{'word ' * 90},short]")
    (line,) = warned(long, HELD_OUT)
    assert line.startswith("1 of sample.prompts are longer than the tokenizer's 77 tokens and are cut (word word")
    assert ": 92)" in line
    assert warned(long, HELD_OUT, most=92) == []
    assert warned(job(f"sample.prompts=[{'word ' * 90}]", "sample.enabled=false"), HELD_OUT) == []
    prefixed = job("data.caption_prefix=sks", "sample.prompts=[a b]", "sample.with_prefix=true")
    assert warned(prefixed, HELD_OUT, most=4)
    assert not warned(prefixed, HELD_OUT, most=5)


@pytest.mark.slow
def test_a_fold_that_holds_out_more_than_it_is_judged_on_is_said() -> None:
    fold = job("data.folds=5", "data.fold=1")
    assert _unjudged(fold, 8) == []
    (said,) = _unjudged(fold, 9)
    assert "more images than the 8 that it is judged on (validation.max_images)" in said.text
    assert _unjudged(job("data.folds=5", "data.fold=all"), 45) == []
    assert _unjudged(job(), 45) == []
