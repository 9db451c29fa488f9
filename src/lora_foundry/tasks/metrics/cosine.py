"""One less the cosine between what was predicted and what was asked for: wrong ways count, wrong lengths do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.tasks.metrics import MetricChoice

if TYPE_CHECKING:
    from torch import Tensor

    from lora_foundry.tasks.protocol import Judged


class _Cosine(MetricChoice):
    def of_rows(self, judged: Judged) -> Tensor:
        from torch.nn.functional import cosine_similarity

        got, asked = (values.flatten(1).to(judged.losses.dtype) for values in (judged.prediction, judged.target))
        return 1 - cosine_similarity(got, asked, dim=1)


CHOICE = _Cosine()
