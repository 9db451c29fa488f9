"""Captions from wherever they are, so that a folder need not say: tables first, then what lies with the images.

Every table of every format is looked for. For the images that none lists, the first format by name that claims the
folder is taken, and the files beside the images where none does.
"""

from __future__ import annotations

from lora_foundry.data.formats import FormatChoice, ImageFormat, TableFormat, Uses, every_format, format_choice
from lora_foundry.data.scan import Scan

_ELSE = "files"


class _Auto(FormatChoice):
    def uses(self, found: Scan) -> Uses:
        others = [one for one in every_format() if one is not self]
        claiming = (one for one in others if isinstance(one, ImageFormat) and one.claims(found))
        return Uses(
            tables=tuple(one for one in others if isinstance(one, TableFormat)),
            images=next(claiming, None) or format_choice(_ELSE).uses(found).images,
        )


CHOICE = _Auto()
