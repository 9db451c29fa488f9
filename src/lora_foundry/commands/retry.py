"""Try failed jobs again: ``resume --failed``."""

from __future__ import annotations

from lora_foundry.commands import resume


def main(words: list[str] | None = None) -> int:
    """Continue what is left, failed jobs too; returns the exit code."""
    return resume.main(words, failed=True)
