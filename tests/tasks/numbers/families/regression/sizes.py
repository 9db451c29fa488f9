"""Nobody asks how much memory so few numbers take."""

from __future__ import annotations

from typing import Any

from lora_foundry.models.protocol import BaseError


def open_sizes(model: Any) -> Any:
    msg = f"{model.name}: has no sizes to predict from"
    raise BaseError(msg)
