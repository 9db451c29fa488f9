"""Its UNet is of the same class as Stable Diffusion's, with added conditions, which are sized there."""

from lora_foundry.models.families.sd.sizes import open_sizes

__all__ = ["open_sizes"]
