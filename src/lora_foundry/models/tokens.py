"""CLIP's tokenizer, read straight with the ``tokenizers`` library: 15 ms to import instead of a second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_foundry.models.protocol import BaseError

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""How CLIP splits a text into words (Radford et al. 2021; ``clip/simple_tokenizer.py``)."""

SHORTEST = 3  # tokens: the two marks, and one word


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTokenizer:
    """Captions to token ids.

    Attributes:
        backend: ``tokenizers.Tokenizer`` that adds the begin and end marks.
        max_tokens: Length that :meth:`encode` pads and cuts to.
        pad_id: Token that fills the rest.
    """

    backend: Any
    max_tokens: int
    pad_id: int

    def count(self, caption: str) -> int:
        """Tokens of ``caption``, begin and end marks included, uncut."""
        return len(self.backend.encode(caption).ids)

    def encode(self, captions: Sequence[str]) -> list[list[int]]:
        """One list of ``max_tokens`` ids a caption; a long one is cut and keeps its end mark."""
        rows = []
        for encoding in self.backend.encode_batch(list(captions)):
            ids = list(encoding.ids)
            if len(ids) > self.max_tokens:
                ids = [*ids[: self.max_tokens - 1], ids[-1]]
            rows.append(ids + [self.pad_id] * (self.max_tokens - len(ids)))
        return rows


def tokenizer_files(folder: Path) -> list[Path]:
    """The files in ``folder`` that make up a tokenizer.

    Raises:
        BaseError: When neither ``tokenizer.json`` nor ``vocab.json`` with ``merges.txt`` is there.
    """
    whole, pair = folder / "tokenizer.json", [folder / "vocab.json", folder / "merges.txt"]
    words = [whole] if whole.is_file() else pair
    if not all(path.is_file() for path in words):
        msg = f"{folder}: no tokenizer; allowed is tokenizer.json, or vocab.json with merges.txt"
        raise BaseError(msg)
    extra = [folder / "tokenizer_config.json", folder / "special_tokens_map.json"]
    return words + [path for path in extra if path.is_file()]


def most_tokens(folder: Path, positions: int) -> int:
    """Tokens that a caption is padded and cut to: what the tokenizer says, at most the text encoder's positions."""
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("model_max_length")
    except (OSError, ValueError, AttributeError):
        said = None
    return min(int(said), positions) if isinstance(said, (int, float)) and said >= SHORTEST else positions


def read_tokenizer(folder: Path, max_tokens: int) -> CaptionTokenizer:
    """Read a CLIP tokenizer in either of its two forms.

    Args:
        folder: With ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.
        max_tokens: Length that the text encoder was made for.

    Raises:
        BaseError: When the files are missing or cannot be read.
    """
    from tokenizers import Tokenizer

    whole = folder / "tokenizer.json"
    files = tokenizer_files(folder)
    try:
        if whole in files:
            backend = Tokenizer.from_file(str(whole))
            backend.no_truncation()
            backend.no_padding()
        else:
            backend = _from_vocabulary(folder)
        pad = _pad_token(folder)
    except (OSError, ValueError) as error:
        msg = f"{folder}: the tokenizer cannot be read ({error}); copy its files again"
        raise BaseError(msg) from error
    except Exception as error:  # the library raises bare Exception for a bad file
        if type(error) is not Exception:
            raise
        msg = f"{folder}: the tokenizer cannot be read ({error}); copy its files again"
        raise BaseError(msg) from error
    pad_id = backend.token_to_id(pad)
    if pad_id is None:
        msg = f"{folder}: the padding token {pad!r} is not in the vocabulary; copy the tokenizer's files again"
        raise BaseError(msg)
    return CaptionTokenizer(backend=backend, max_tokens=max_tokens, pad_id=pad_id)


def _from_vocabulary(folder: Path) -> Any:  # noqa: ANN401
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    bpe = models.BPE.from_file(
        str(folder / "vocab.json"), str(folder / "merges.txt"), unk_token=END, end_of_word_suffix="</w>"
    )
    backend = Tokenizer(bpe)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in (BEGIN, END)])
    begin, end = ((mark, backend.get_vocab()[mark]) for mark in (BEGIN, END))
    backend.post_processor = processors.RobertaProcessing(end, begin, trim_offsets=False, add_prefix_space=False)
    return backend


def _pad_token(folder: Path) -> str:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        token = json.loads(path.read_text(encoding="utf-8")).get("pad_token") if path.is_file() else None
        if token is not None:
            return str(token["content"]) if isinstance(token, dict) else str(token)
    return END
