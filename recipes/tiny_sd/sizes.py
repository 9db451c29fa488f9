"""Architecture and sizes of the base: everything that may not change once adapters exist for it."""

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

VOCABULARY = 1536
PROMPT_TOKENS = 32
TEXT_WIDTH = 192
PIXELS = 64
LATENT_PIXELS = 16


def new_vae() -> AutoencoderKL:
    """Return an untrained autoencoder: `[B, 3, 64, 64]` in -1 to 1, latents `[B, 4, 16, 16]`."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=PIXELS,
    )


def new_unet() -> UNet2DConditionModel:
    """Return an untrained UNet of 10.9 M parameters with cross-attention at the two lower levels."""
    return UNet2DConditionModel(
        sample_size=LATENT_PIXELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=32,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained text encoder of two layers that matches the tokenizer."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=6,
            max_position_embeddings=PROMPT_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_scheduler() -> DDIMScheduler:
    """Return the noise schedule: v-prediction on the cosine schedule.

    Its last step keeps 0.005 % of the picture, so a plain coloured background can be learned without the
    zero-terminal-SNR rescaling, whose last step divides by zero in epsilon formulas.
    Nichol and Dhariwal (2021), https://arxiv.org/abs/2102.09672, section 3.2.
    """
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )
