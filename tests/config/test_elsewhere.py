"""Who comes from another trainer is told our key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lora_foundry.config import ConfigError, parse
from lora_foundry.config.elsewhere import _KEYS, _NOT_HERE, _OURS, our_key, why_not_here
from lora_foundry.config.hints import known_keys
from lora_foundry.config.parse import key_hint, keys_called

Change = Callable[[dict[str, Any]], dict[str, Any]]

# From kohya's train_network.py, diffusers' train_text_to_image_lora.py, transformers' TrainingArguments, PEFT,
# ai-toolkit's and OneTrainer's configurations.
EXPECTED = {
    "network_dim": "lora.rank",
    "network_alpha": "lora.alpha",
    "network_weights": "lora.init_from",
    "learning_rate": "optimizer.lr",
    "unet_lr": "optimizer.lr",
    "train_data_dir": "data.path",
    "train_batch_size": "data.batch_size",
    "max_train_steps": "trainer.max_steps",
    "max_train_epochs": "trainer.epochs",
    "gradient_accumulation_steps": "trainer.accumulate",
    "mixed_precision": "trainer.precision",
    "pretrained_model_name_or_path": "model.path",
    "lr_scheduler": "scheduler",
    "lr_warmup_steps": "scheduler.warmup_steps",
    "optimizer_type": "optimizer",
    "output_name": "name",
    "output_dir": "hydra.sweep.dir",
    "save_every_n_steps": "trainer.save_every",
    "resolution": "data.resolution",
    "caption_extension": "data.captions",
    "min_snr_gamma": "objective.snr_gamma",
    "instance_data_dir": "data.path",
    "instance_prompt": "data.caption_prefix",
    "checkpointing_steps": "trainer.checkpoint_every",
    "resume_from_checkpoint": "resume",
    "validation_prompt": "sample.prompts",
    "num_train_epochs": "trainer.epochs",
    "per_device_train_batch_size": "data.batch_size",
    "r": "lora.rank",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_rank": "lora.rank",
    "linear_alpha": "lora.alpha",
    "folder_path": "data.path",
    "trigger_word": "data.caption_prefix",
    "steps": "trainer.max_steps",
    "base_model_name": "model.path",
    "concept_file_name": "data.path",
    "layer_filter": "lora.target_modules",
}


@pytest.mark.parametrize(("theirs", "ours"), EXPECTED.items())
def test_a_name_of_another_trainer_leads_to_our_key(with_values: Change, theirs: str, ours: str) -> None:
    for key in (theirs, f"trainer.{theirs}", f"lora.{theirs}"):
        if key in known_keys():
            continue
        with pytest.raises(ConfigError) as caught:
            parse(with_values({key: 1}))
        assert caught.value.problems == [f"{key}: no such key; did you mean {ours!r}?"]
    assert ours in keys_called(f"--{theirs}")
    assert ours in keys_called(f"--{theirs.replace('_', '-')}")


def test_every_key_that_is_named_exists_and_no_name_stands_for_two() -> None:
    assert {key for key in _OURS if not key.startswith("hydra.")} <= set(known_keys())
    names = [name for listed in (*_OURS.values(), *_NOT_HERE.values()) for name in listed.split()]
    assert len(names) == len(set(names))
    assert not set(names) & set(known_keys()), "a name of ours is no one else's"
    assert _KEYS["network_dim"] == "lora.rank"


@pytest.mark.parametrize("theirs", ["keep_tokens", "text_encoder_lr", "reg_data_dir", "use_dora", "cache_latents"])
def test_what_there_is_no_key_for_is_told_so(theirs: str) -> None:
    assert our_key(theirs) is None
    assert key_hint(theirs, known_keys()) == f"; {why_not_here(theirs)}"
