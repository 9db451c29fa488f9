"""LoRA (Hu et al. 2021): ``y = W x + s B A x`` with ``A [r, in]`` and ``B [out, r]``, s = alpha / r.

With rsLoRA s is alpha / sqrt(r) (Kalajdzievski 2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.lora.kinds import Begun, KindChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from peft import PeftConfig
    from torch import Tensor

    from lora_foundry.config.schema import LoraConfig
    from lora_foundry.lora.formats.adapter import LoraWeights
    from lora_foundry.lora.inject import AdapterSpec


class _Lora(KindChoice):
    def peft(self, spec: AdapterSpec) -> PeftConfig:
        from peft import LoraConfig as PeftLora
        from torch import nn

        from lora_foundry.lora.kinds.lora.layers import PackedConv2d, PackedLinear

        config = PeftLora(
            r=spec.rank,
            lora_alpha=spec.alpha,  # type: ignore[arg-type]  # PEFT annotates int, and computes with floats
            lora_dropout=spec.dropout,
            target_modules=list(spec.targets),
            use_rslora=spec.use_rslora,
            init_lora_weights=True if spec.init == "kaiming" else "gaussian",
        )
        config._register_custom_module({nn.Linear: PackedLinear, nn.Conv2d: PackedConv2d})
        return config

    def written(self, parts: Mapping[str, Tensor], lora: LoraConfig) -> LoraWeights:
        from lora_foundry.lora.formats.adapter import LoraWeights, effective_alpha

        down, up = parts["A"], parts["B"].transpose(0, 1).contiguous()
        shaped = up if down.ndim == 2 else up[..., None, None]  # linear or convolution
        alpha = effective_alpha(lora.alpha, lora.rank, use_rslora=lora.use_rslora)
        return LoraWeights(down=down, up=shaped, alpha=alpha)

    def begun(self, weights: LoraWeights, fresh: Mapping[str, Tensor], lora: LoraConfig) -> Begun:
        from lora_foundry.lora.formats.adapter import effective_alpha
        from lora_foundry.lora.resize import larger, smaller

        scale = effective_alpha(lora.alpha, lora.rank, use_rslora=lora.use_rslora) / lora.rank
        down, up = weights.down.double().cpu(), weights.up.flatten(1).double().cpu()
        cut = weights.rank > lora.rank
        made = smaller(down, up, lora.rank) if cut else larger(down, up, fresh["A"].detach().cpu())
        return Begun(
            parts={"A": made.down.reshape(fresh["A"].shape), "B": made.up.T * (weights.scale / scale)},
            lost=made.lost * weights.scale**2,
            whole=made.whole * weights.scale**2,
        )


CHOICE = _Lora()
