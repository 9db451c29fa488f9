"""What the installed torch is built for, read from its version file: the launcher does not import it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchBuild:
    """An installed torch.

    Attributes:
        version: Such as ``2.13.0+cu130``.
        cuda: Of the CUDA that it is built for.
        hip: Of the ROCm that it is built for.
    """

    version: str
    cuda: str | None = None
    hip: str | None = None

    @property
    def made_for(self) -> str:
        """``CUDA 13.0``, ``ROCm 7.2`` or ``the CPU``."""
        if self.hip is not None:
            return f"ROCm {self.hip}"
        return "the CPU" if self.cuda is None else f"CUDA {self.cuda}"

    def about(self) -> str:
        """For people: which, and what for."""
        return f"torch {self.version}, built for {self.made_for}"


def torch_build() -> TorchBuild | None:
    """The one that this environment's Python would import; null where there is none, or its file says nothing."""
    found = find_spec("torch")  # which imports nothing
    folders = found.submodule_search_locations if found else None
    return read_build(Path(folders[0]) / "version.py") if folders else None


def read_build(file: Path) -> TorchBuild | None:
    """What torch's ``version.py`` says; null where it cannot be read."""
    try:
        statements = ast.parse(file.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return None
    told: dict[str, object] = {}
    for one in statements:
        if isinstance(one, ast.Assign | ast.AnnAssign) and isinstance(one.value, ast.Constant):
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            told |= {target.id: one.value.value for target in targets if isinstance(target, ast.Name)}
    version, cuda, hip = (told.get(name) for name in ("__version__", "cuda", "hip"))
    if not isinstance(version, str):
        return None
    return TorchBuild(
        version=version, cuda=cuda if isinstance(cuda, str) else None, hip=hip if isinstance(hip, str) else None
    )
