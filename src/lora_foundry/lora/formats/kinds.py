"""Adapters of other kinds than plain LoRA, known by the ends of their keys."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KINDS = (
    (r"\.hada_[wt][12](_[ab])?$", "LoHa"),
    (r"\.lokr_(w[12](_[ab])?|t2)$", "LoKr"),
    (r"\.lora_mid\.weight$", "CP (LoCon with a Tucker core)"),
    (r"\.(oft_blocks|oft_diag|oft_R(\.[\w-]+)?\.weight|R\.weight)$", "OFT"),
    (r"\.(boft_[RS]|oft_blocks_butterfly)", "BOFT"),
    (r"\.(a[12]|b[12])\.weight$", "GLoRA"),
    (r"\.on_input$", "IA3"),
    (r"\.(diff|diff_b|set_weight)$", "whole weights (LyCORIS's full)"),
    (r"\.([wb]_norm)$", "norms (LyCORIS)"),
    (r"\.(ia3_l)(\.[\w-]+)?$", "IA3"),
    (r"\.vera_lambda_[bd]", "VeRA"),
    (r"\.(lora_E|ranknum)", "AdaLoRA"),
    (r"\.lora_B(\.[\w-]+)?\.bias$", "LoRA with biases"),
    (r"\.lora_embedding_[AB]", "LoRA of embeddings"),
    (r"\.reshape_weight$", "LoRA for another shape of the base"),
)
_PATTERNS = tuple((re.compile(pattern), kind) for pattern, kind in _KINDS)
PLAIN = "allowed is plain LoRA of linear layers and convolutions"


def kind_of(key: str) -> str | None:
    """The kind of adapter that ``key`` belongs to; None when it is none of those."""
    return next((kind for pattern, kind in _PATTERNS if pattern.search(key)), None)


def other_kinds(keys: Iterable[str]) -> dict[str, list[str]]:
    """Those of ``keys`` that belong to another kind, by kind."""
    found: dict[str, list[str]] = {}
    for key in keys:
        kind = kind_of(key)
        if kind is not None:
            found.setdefault(kind, []).append(key)
    return found
