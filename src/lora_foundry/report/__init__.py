"""What a person looks at when a sweep has ended.

Other rooms use of it:

- ``rates``: the curves of ``src.find_lr``, for a terminal and as a picture.
"""

from __future__ import annotations

from lora_foundry.report.sweep import finish_sweep

__all__ = ["finish_sweep"]
