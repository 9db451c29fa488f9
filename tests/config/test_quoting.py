"""What is quoted is read again as it was: by bash, by Hydra's grammar, and by both."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lora_foundry.config.quoting import override, shell, split

HARD = (
    *("", " ", "a b", "it's", 'say "hi"', "a,b", "a=b", "a(1)", "[x]", "{a:1}", "#1", "50%", "$HOME", "`id`", "!!"),
    *(
        "~",
        "~/photos",
        "-m",
        "a\\",
        "\\",
        "\\\\'",
        "\\'",
        "é",
        "/home/müller",
        "кошка",
        "狗",
        "🐈",
        "*",
        "?",
        ";",
        "a\nb",
    ),
    *("${seed}", "\\${seed}", "\\\\${seed}", "a${seed}b", "${", "$", "null", "TRUE", "1e9", "08", ".5", "1_000", "nan"),
    *("a:b", "a|b", "a&b", "<x>", "\x1b[31m", "multirun/2026-11-27/10-00-00-a1b2c3", "/tmp/my loras (é)'s/0"),
)
TEXTS = st.one_of(
    st.sampled_from(HARD),
    st.text(st.sampled_from("ab19 \\'\"${}[](),:=~é#.-_/"), max_size=12),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


def read_by_hydra(word: str) -> Any:
    """The value that a job's configuration gets."""
    (parsed,) = OverridesParser.create().parse_overrides([word])
    assert not parsed.is_sweep_override(), word
    config = OmegaConf.create({"seed": 7, "key": None})
    OmegaConf.update(config, parsed.key_or_group, parsed.value(), merge=True)
    return OmegaConf.to_container(config, resolve=True)["key"]


def read_by_bash(line: str) -> list[str]:
    """The words of a command line."""
    command = ["bash", "--norc", "-c", f"printf '%s\\0' {line}"]
    ran = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", errors="surrogateescape")
    return ran.stdout.split("\0")[:-1]


@pytest.mark.slow
@given(VALUES)
def test_hydra_reads_the_very_value_again(value: Any) -> None:
    assert read_by_hydra(override("key", value)) == value


@pytest.mark.parametrize("text", HARD)
def test_hydra_reads_each_hard_text_again(text: str) -> None:
    word = override("key", text)
    read = read_by_hydra(word)
    assert isinstance(read, str)
    assert read == text, word


@given(st.lists(TEXTS, min_size=1, max_size=5))
@settings(max_examples=40)
@example(list(HARD))
@example(["\udcff", "a\udce9b"])
def test_bash_splits_a_command_into_the_very_words(words: list[str]) -> None:
    line = shell(words)
    assert line.isprintable(), "one line, and nothing that a terminal obeys"
    assert read_by_bash(line) == words
    assert split(line) == words


def test_a_line_of_another_s_making_is_split_as_a_shell_does() -> None:
    assert split("python  -m src.train \"data.path='a b'\" x'y'z") == [
        "python",
        "-m",
        "src.train",
        "data.path='a b'",
        "xyz",
    ]
    with pytest.raises(ValueError, match="quotation"):
        split("python 'a")


@pytest.mark.parametrize("text", HARD)
def test_a_value_survives_the_shell_and_hydra_together(text: str) -> None:
    (word,) = read_by_bash(shell([override("key", text)]))
    assert read_by_hydra(word) == text


def test_what_needs_no_quotes_gets_none() -> None:
    words = ["python", "-m", "src.train", override("resume", Path("multirun/2026-11-27/10-00-00-a1b2c3/0"))]
    assert shell(words) == "python -m src.train resume=multirun/2026-11-27/10-00-00-a1b2c3/0"
    assert override("lora.rank", 8) == "lora.rank=8"
    assert override("optimizer.lr", 1e-4) == "optimizer.lr=0.0001"
    assert override("lora.target_modules", ("to_q", "to_v")) == "lora.target_modules=[to_q,to_v]"
    assert override("lora.init_from", None) == "lora.init_from=null"
