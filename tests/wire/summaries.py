"""Summaries of finished jobs for tests, of which most need a field or two."""

from __future__ import annotations

from lora_foundry.wire.fields import Form
from lora_foundry.wire.summary import Summary

_FORM = Form(Summary)


def summary(**told: object) -> Summary:
    """As it is read where no more than ``told`` stands."""
    read = _FORM.read(told)
    assert read is not None
    return read
