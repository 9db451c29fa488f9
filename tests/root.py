"""The root of the tree that is tested."""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]
