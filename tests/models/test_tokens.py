"""Captions become the same ids as with transformers' CLIPTokenizer, which is not imported for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from lora_foundry.models import BaseError
from lora_foundry.models.tokens import read_tokenizer
from tests.root import PROJECT_ROOT

SD15 = PROJECT_ROOT / "assets/sd15-config/tokenizer"
TEXTS = [
    "a photo of a cat",
    "",
    "Ünïcode CAFÉ 東京 🚀🚀!!  12345's don't <|endoftext|> x",
    "e\u0301 tab\tand\nline",
    "<|startoftext|>hello",
    "word " * 200,
]


@pytest.mark.slow
def test_the_vocabulary_of_sd15_gives_clips_ids() -> None:
    tokenizer = read_tokenizer(SD15, 77)
    ids = tokenizer.encode(["a photo of a cat"])[0]
    # openai/CLIP: clip.tokenize("a photo of a cat"); 49407 ends and, in Stable Diffusion 1.x, pads
    assert ids[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert ids[7:] == [49407] * 70


@pytest.mark.slow
def test_ids_are_those_of_transformers_for_odd_texts() -> None:
    reference = CLIPTokenizer.from_pretrained(SD15)
    expected = reference(TEXTS, padding="max_length", max_length=77, truncation=True).input_ids
    assert read_tokenizer(SD15, 77).encode(TEXTS) == expected


@pytest.mark.slow
def test_a_tokenizer_json_gives_the_ids_of_its_vocabulary(tmp_path: Path) -> None:
    CLIPTokenizer.from_pretrained(SD15).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    assert read_tokenizer(tmp_path, 77).encode(TEXTS) == read_tokenizer(SD15, 77).encode(TEXTS)


@pytest.mark.slow
def test_counting_includes_the_marks_and_is_not_cut() -> None:
    tokenizer = read_tokenizer(SD15, 77)
    assert tokenizer.count("") == 2
    assert tokenizer.count("a photo of a cat") == 7
    assert tokenizer.count("word " * 200) == 202


@pytest.mark.slow
def test_a_long_caption_is_cut_and_keeps_its_end_mark() -> None:
    row = read_tokenizer(SD15, 8).encode(["a photo of a cat on a red sofa"])[0]
    assert row == [49406, 320, 1125, 539, 320, 2368, 525, 49407]


@pytest.mark.slow
@pytest.mark.parametrize("pad", ["!", {"content": "!", "lstrip": False}])
def test_the_padding_token_is_read_in_either_spelling(tmp_path: Path, pad: object) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((SD15 / name).read_bytes())
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": pad}))
    row = read_tokenizer(tmp_path, 5).encode(["cat"])[0]
    assert row == [49406, 2368, 49407, 0, 0]  # "!" is the vocabulary's first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "content", "says"),
    [
        ("tokenizer.json", "{}", "cannot be read"),
        ("tokenizer.json", "no json", "cannot be read"),
        ("vocab.json", "[]", "cannot be read"),
        ("tokenizer_config.json", "no json", "cannot be read"),
        ("tokenizer_config.json", '{"pad_token": "<absent>"}', "'<absent>' is not in the vocabulary"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, broken: str, content: str, says: str) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((SD15 / name).read_bytes())
    (tmp_path / broken).write_text(content)
    with pytest.raises(BaseError, match=says):
        read_tokenizer(tmp_path, 77)


def test_no_files_say_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"tokenizer\.json, or vocab\.json with merges\.txt"):
        read_tokenizer(tmp_path, 77)
