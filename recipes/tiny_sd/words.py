"""Train the tokenizer: a byte-level BPE in CLIP's own form, on every caption."""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from recipes.tiny_sd.sizes import PROMPT_TOKENS, VOCABULARY
from recipes.tiny_sd.subjects import TEMPLATES, Subject

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
SPLIT = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|"
    r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""CLIP's own pattern of words."""


def train_tokenizer(subjects: list[Subject]) -> CLIPTokenizer:
    """Train the vocabulary; every byte is in it, so no prompt has an unknown token.

    Args:
        subjects: The subjects whose captions are the training text.

    Returns:
        A tokenizer that pads with the end token, as Stable Diffusion's does.
    """
    model = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    model.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(alphabet) - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    model.train_from_iterator(_texts(subjects), trainer)
    return _clip_tokenizer(model, alphabet)


def _texts(subjects: list[Subject]) -> Iterable[str]:
    for subject in subjects:
        yield from subject.captions
    for template in TEMPLATES:
        yield from [template.format("")] * len(subjects)


def _clip_tokenizer(model: Tokenizer, alphabet: list[str]) -> CLIPTokenizer:
    """Number the tokens as CLIP does: bytes, bytes at a word's end, merges, start, end."""
    state = json.loads(model.to_str())["model"]
    merges = [tuple(merge) for merge in state["merges"]]
    tokens = [*alphabet, *(byte + WORD_END for byte in alphabet), *("".join(merge) for merge in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=PROMPT_TOKENS)
