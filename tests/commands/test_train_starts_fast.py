"""What only shows something imports no torch and trains nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.root import PROJECT_ROOT

_HEAVY = ("torch", "mlflow", "lightning", "diffusers", "transformers", "peft", "matplotlib", "numpy", "PIL")
_PROBE = """
import sys
sys.argv = ["train.py", *sys.argv[1:]]
from lora_foundry.commands.train import main
try:
    code = main()
except SystemExit as ended:
    code = ended.code or 0
heavy = [name for name in %r if name in sys.modules]
sys.stderr.write("HEAVY " + ",".join(heavy))
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("--help",), "lora.rank=4,8,16 -m"),
        (("--cfg", "job", "lora.rank=5"), "rank: 5"),
        (("lora.rank=5", "--cfg", "job", "-m"), "rank: 5"),
        (("--version",), "LoRA Foundry 0.1.0 ("),
    ],
)
def test_info_imports_nothing_heavy(words: tuple[str, ...], shown: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE % (_HEAVY,), *words],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert done.stderr == "HEAVY "


def test_help_names_groups_their_options_and_short_names() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "src.train", "--help"], capture_output=True, text=True, cwd=PROJECT_ROOT, check=True
    )
    for word in (
        "model: sd15, sdxl, tiny-sd",
        "sweep: ",
        "lora.alpha",
        "resume=",
        "sample=none",
        "optimizer: adafactor",
    ):
        assert word in done.stdout
