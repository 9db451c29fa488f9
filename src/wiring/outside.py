"""All that the farm is given."""

from __future__ import annotations

from src.launch.farm.outside import Outside
from src.wiring.data import data_changes
from src.wiring.forecast import TracedForecast
from src.wiring.picture import draw_picture
from src.wiring.preflight import LOOKS


def outside() -> Outside:
    """The other rooms, as the farm sees them; forecasts keep what they read for as long as this lives."""
    return Outside(finish=draw_picture, forecast=TracedForecast(), changed=data_changes, looks=LOOKS)
