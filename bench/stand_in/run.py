"""``python -m bench.stand_in.run SCRIPT ...``: run a script that finds the stand-in as ``torchvision.transforms``.

Transformers, diffusers and datasets must go on believing that there is no torchvision, since they would ask for
more of it. Each looks once and remembers, so they are made to look before the stand-in is put in its place. The
script imports those itself, so this costs it nothing; one that is not installed is not looked at.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from types import ModuleType

import diffusers.utils.import_utils
from transformers.utils.import_utils import is_torchvision_available

from bench.stand_in import transforms


def main() -> None:
    """Run the script as ``__main__`` with the rest of the arguments."""
    seen = [is_torchvision_available(), diffusers.utils.import_utils.is_torchvision_available()]
    if importlib.util.find_spec("datasets") is not None:
        import datasets.config

        seen.append(datasets.config.TORCHVISION_AVAILABLE)
    if not any(seen):
        package = ModuleType("torchvision")
        package.transforms = transforms  # type: ignore[attr-defined]  # a module made here
        sys.modules["torchvision"] = package
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
