"""What ``python -m src.predict`` prints, of traces that are kept already."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lora_foundry.config.compose import compose_job
from lora_foundry.config.doing import WHILE, most_is_taken
from lora_foundry.launch.points.point import Point
from lora_foundry.memory import between, predict
from lora_foundry.memory.between import Pictures
from lora_foundry.memory.fits import most_that_fits
from lora_foundry.memory.libraries import NOTHING, on_card
from lora_foundry.memory.predict import GIB, Curve
from lora_foundry.memory.scratch import Alive
from lora_foundry.memory.table import print_fits, print_needs
from lora_foundry.models.opening import open_sizes

_MIB = 2**20
_STRIDE = 16
"""Of the embedded base, pixels."""
