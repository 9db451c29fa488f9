"""What a person looks at while a sweep runs and when it has ended.

Other rooms use of it:

- ``page``: ``report.html``, a whole sweep in one file;
- ``rates``: the curves of ``src.find_lr``, for a terminal and as a picture;
- ``removal``: what ``src.ablate`` found, for a terminal and as a picture;
- ``told``: what a report is told of a sweep.
"""

from __future__ import annotations

from lora_foundry.report.sweep import finish_sweep

__all__ = ["finish_sweep"]
