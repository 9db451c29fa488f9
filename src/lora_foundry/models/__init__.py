"""Base families behind one protocol: files, tokenizer, encoders, denoiser, decoder, targets, drawing.

Importing this room imports no torch; :func:`open_base` reads no weights.
"""

from lora_foundry.models.opening import open_base
from lora_foundry.models.protocol import BaseError

__all__ = ["BaseError", "open_base"]
