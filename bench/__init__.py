"""Measures what docs/benchmarks.md says; `make bench` runs everything and writes that page."""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]
