"""The commands of a checkout, ``python -m src.train``; all code is in the package ``lora_foundry`` beside this file.

Whichever ``lora_foundry`` an environment has installed, a checkout's commands and their workers run the checkout's.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_FOUND = find_spec("lora_foundry")
if _FOUND is None or _FOUND.origin is None or not Path(_FOUND.origin).resolve().is_relative_to(_HERE):
    sys.path.insert(0, str(_HERE))
