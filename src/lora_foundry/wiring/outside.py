"""All that the farm is given."""

from __future__ import annotations

from lora_foundry.launch.farm.outside import Outside
from lora_foundry.wiring.data import data_changes
from lora_foundry.wiring.forecast import TracedForecast
from lora_foundry.wiring.page import write_report
from lora_foundry.wiring.picture import draw_picture
from lora_foundry.wiring.preflight import LOOKS
from lora_foundry.wiring.pruning import pruning
from lora_foundry.wiring.rate import rate


def outside() -> Outside:
    """The other rooms, as the farm sees them; forecasts keep what they read for as long as this lives."""
    return Outside(
        finish=draw_picture,
        report=write_report,
        forecast=TracedForecast(),
        changed=data_changes,
        looks=LOOKS,
        rate=rate,
        watch=pruning,
    )
