"""Texts as MLflow stores and shows them: long ones keep both ends, since what to do stands last."""

from __future__ import annotations

LONGEST_TAG = 5000  # of the 8,000 that MLflow takes
_GAP = " ... "
_MORE = "..."


def shortened(text: str, most: int = LONGEST_TAG) -> str:
    """``text`` in at most ``most`` characters: its beginning, and its end with the advice."""
    if len(text) <= most:
        return text
    tail = (most - len(_GAP)) // 2
    return f"{text[: most - len(_GAP) - tail]}{_GAP}{text[-tail:]}"


def source_name(command: str) -> str:
    """What the UI's column "Source" is to show of a command; the tag ``command`` has all of it.

    MLflow shows there only what stands behind the last slash, so words from the first one with a slash on are left out.
    """
    words = command.split(" ")
    whole = next((place for place, word in enumerate(words) if "/" in word), len(words))
    return " ".join([*words[:whole], *([_MORE] if whole < len(words) else [])])[:LONGEST_TAG]
