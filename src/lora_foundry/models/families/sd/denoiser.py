"""The UNet with its noise schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lora_foundry.models.families.sd.noise import ddim_config, read_alphas_cumprod, read_prediction_type
from lora_foundry.models.protocol import Conditioning
from lora_foundry.models.targets import resolve_targets, target_layers
from lora_foundry.objectives.process import DiscreteDiffusion


class SdDenoiser:
    """A frozen ``UNet2DConditionModel`` in eval mode; see :class:`lora_foundry.models.protocol.Denoiser`."""

    def __init__(
        self,
        unet: Any,  # noqa: ANN401  # diffusers is untyped
        scheduler_config: Mapping[str, Any],
        prediction_type: str,
        *,
        gradient_checkpointing: bool,
    ) -> None:
        """Take ``unet``, which stays where and as it is.

        Args:
            unet: The UNet, all parameters frozen.
            scheduler_config: The base's own, of whatever class.
            prediction_type: ``auto`` takes the scheduler's.
            gradient_checkpointing: Recompute activations in the backward pass (Chen et al. 2016).
        """
        self.module = unet
        self.components: Mapping[str, nn.Module] = {"unet": unet}
        self.layers: Mapping[str, str] = target_layers(self.components)
        predicts = read_prediction_type(scheduler_config, prediction_type)
        self.scheduler_config: Mapping[str, Any] = {
            **ddim_config(scheduler_config),
            "prediction_type": predicts,
        }
        self.process = DiscreteDiffusion(read_alphas_cumprod(self.scheduler_config), predicts)
        self.latent_channels: int = self.module.config.in_channels
        self.set_gradient_checkpointing(enabled=gradient_checkpointing)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the base's weights; an adapter's may differ."""
        dtype: torch.dtype = self.module.conv_norm_out.weight.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the base lies."""
        device: torch.device = self.module.conv_norm_out.weight.device
        return device

    def set_gradient_checkpointing(self, *, enabled: bool) -> None:
        """Recompute each block's activations in the backward pass, or keep them.

        It works in train and eval mode and, being non-reentrant, with inputs that need no gradient: the base is
        frozen, so without adapters nothing that enters a block needs one.
        """
        if enabled:
            self.module.enable_gradient_checkpointing(_recompute)
        else:
            self.module.disable_gradient_checkpointing()

    def denoise(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's prediction, in the base's dtype.

        Args:
            noisy: Noisy latents [N, C, h, w]; cast to the base's dtype.
            timesteps: Integers [N].
            conditioning: ``{"encoder_hidden_states": [N, L, D]}``; what else there is (SDXL's pooled text states and
                sizes) goes to the UNet as its added conditions.

        Returns:
            [N, C, h, w].
        """
        device, dtype = self.device, self.dtype
        told = {name: states.to(device, dtype) for name, states in conditioning.items()}
        states = told.pop("encoder_hidden_states")
        prediction: Tensor = self.module(
            noisy.to(device, dtype),
            timesteps.to(device),
            encoder_hidden_states=states,
            added_cond_kwargs=told or None,
            return_dict=False,
        )[0]
        return prediction

    def target_names(self, target_modules: str | Sequence[str]) -> list[str]:
        """See :func:`lora_foundry.models.targets.resolve_targets`; unaffected by adapters put in since."""
        return resolve_targets(self.layers, target_modules)


def _recompute(module: nn.Module, *arguments: Any) -> Any:  # noqa: ANN401
    from torch.utils.checkpoint import checkpoint

    # No generator state is kept: the UNet has no dropout and the adapters' is a function of counters.
    return checkpoint(module.__call__, *arguments, use_reentrant=False, preserve_rng_state=False)
