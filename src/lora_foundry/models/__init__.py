"""Base families behind one protocol: files, tokenizer, encoders, denoiser, decoder, targets, drawing.

Importing this room imports no torch; :func:`open_base` reads no weights.

Other rooms use of it:

- ``likeness``: how like pictures are by an encoder of images;
- ``opening``: from a model's configuration to files that were found;
- ``protocol``: what a family of bases offers;
- ``sampling``: drawing pictures with a denoiser;
- ``targets``: which layers of a base get an adapter.
"""

from lora_foundry.models.opening import open_base
from lora_foundry.models.protocol import BaseError

__all__ = ["BaseError", "open_base"]
