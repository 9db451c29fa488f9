"""What other trainers call things: kohya's scripts, diffusers' examples, ai-toolkit, OneTrainer, PEFT and transformers.

Nothing is set by these names. They are known so that the error names our key, or says why there is none.
"""

from __future__ import annotations

_OURS = {
    "name": "output_name run_name wandb_run_name lora_name",
    "seed": "data_seed manual_seed random_seed",
    "resume": "resume_from_checkpoint continue_last_backup",
    "hydra.sweep.dir": "output_dir training_folder workspace_dir output_model_destination project_dir save_dir",
    "hydra.launcher.devices": "gpu_ids cuda_visible_devices num_processes device_indexes",
    "model.path": (
        "pretrained_model_name_or_path base_model_name model_name_or_path name_or_path pretrained_model base_model "
        "ckpt model_name"
    ),
    "model.config": "tokenizer_name tokenizer_cache_dir",
    "model.revision": "variant",
    "model.prediction_type": "v_parameterization v_pred",
    "data.path": (
        "train_data_dir instance_data_dir dataset_name dataset_path folder_path in_json dataset_config data_dir "
        "concept_file_name concepts image_dir image_folder train_data_path"
    ),
    "data.val_path": "validation_data_dir val_data_dir",
    "data.val_fraction": "validation_split val_split eval_split",
    "data.batch_size": "train_batch_size per_device_train_batch_size per_gpu_train_batch_size micro_batch_size bs",
    "data.resolution": "res image_size max_resolution image_resolution",
    "data.crop": "random_crop center_crop crop_mode",
    "data.flip": "flip_aug random_flip flip_x horizontal_flip",
    "data.captions": "caption_extension caption_ext caption_column image_column text_column caption_extention",
    "data.repeats": "num_repeats dataset_repeats repeat_count",
    "data.caption_dropout": "caption_dropout_rate proportion_empty_prompts caption_dropout_every_n_epochs drop_caption",
    "data.caption_prefix": "instance_prompt trigger_word trigger_words class_tokens activation_text instance_token",
    "lora.rank": "network_dim r lora_rank lora_r linear rank_dim dim network_rank conv_dim conv lora_dim",
    "lora.alpha": "network_alpha lora_alpha linear_alpha conv_alpha scaling",
    "lora.dropout": "network_dropout lora_dropout dropout_probability rank_dropout module_dropout",
    "lora.target_modules": "network_args layer_filter lora_target_modules only_if_contains lora_layers preset",
    "lora.init": "init_lora_weights",
    "lora.init_from": "network_weights dim_from_weights lora_model_name pretrained_lora_path lora_weights lora_path",
    "objective.snr_gamma": "min_snr_gamma min_snr_gamma_value",
    "objective.noise_offset": "offset_noise_weight offset_noise adaptive_noise_scale multires_noise_iterations",
    "optimizer": "optimizer_type optim",
    "optimizer.lr": "learning_rate unet_lr lr_unet base_lr max_lr lrs transformer_lr",
    "optimizer.betas": "adam_beta1 adam_beta2 beta1 beta2 optimizer_args optimizer_params",
    "optimizer.eps": "adam_epsilon epsilon",
    "optimizer.weight_decay": "adam_weight_decay wd",
    "scheduler": "lr_scheduler lr_scheduler_type learning_rate_scheduler lr_schedule",
    "scheduler.warmup_steps": "lr_warmup_steps learning_rate_warmup_steps warmup warmup_ratio num_warmup_steps",
    "scheduler.min_lr_ratio": "lr_scheduler_min_lr_ratio learning_rate_min_factor min_lr eta_min",
    "trainer.max_steps": "max_train_steps steps train_steps num_train_steps iterations total_steps num_steps",
    "trainer.epochs": "max_train_epochs num_train_epochs num_epochs max_epochs epoch",
    "trainer.patience": "early_stopping early_stopping_patience early_stop patience_steps",
    "trainer.accumulate": "gradient_accumulation_steps gradient_accumulation grad_accum accumulate_grad_batches",
    "trainer.max_grad_norm": "clip_grad_norm gradient_clip_val grad_clip gradient_clipping",
    "trainer.gradient_checkpointing": "use_gradient_checkpointing activation_checkpointing",
    "trainer.precision": "mixed_precision train_dtype dtype full_bf16 full_fp16 bf16 fp16 torch_dtype weight_dtype",
    "trainer.log_every": "logging_steps log_every_n_steps log_steps",
    "trainer.save_every": "save_every_n_steps save_every_n_epochs save_model_every save_every_n_train_steps",
    "trainer.keep_best": "save_top_k save_best save_total_limit load_best_model_at_end",
    "trainer.average": "ema use_ema ema_decay swa stochastic_weight_avg",
    "trainer.checkpoint_every": "checkpointing_steps save_state save_steps backup_after save_state_on_train_end",
    "trainer.accelerator": "device use_cpu no_cuda",
    "validation.every": "validate_every_n_steps validation_epochs validation_steps eval_steps eval_every",
    "sample": "disable_sampling",
    "sample.prompts": "sample_prompts validation_prompt validation_prompts prompt",
    "sample.seeds": "num_validation_images sample_seed walk_seed",
    "sample.every": "sample_every_n_steps sample_every_n_epochs sample_after sample_every",
    "sample.steps": "sample_steps num_inference_steps inference_steps",
    "sample.guidance": "guidance_scale cfg_scale sample_cfg",
    "tracking": "log_with report_to use_wandb use_tensorboard",
    "tracking.root": "logging_dir log_dir",
    "tracking.uri": "tracking_uri mlflow_tracking_uri",
    "tracking.experiment": "log_tracker_name tracker_project_name experiment_name wandb_project project_name",
}
_NOT_HERE = {
    "text encoders stay frozen": "text_encoder_lr train_text_encoder learning_rate_te network_train_text_encoder_only",
    "what is trained is a LoRA": "network_module network_train_unet_only training_method train_unet network_type",
    "DoRA is not trained": "use_dora dora_wd lora_decompose",
    "captions are taken as they are, in their order": (
        "shuffle_caption keep_tokens shuffle_tokens caption_tag_dropout_rate"
    ),
    "images have one size, data.resolution, and data.crop says how": (
        "enable_bucket min_bucket_reso max_bucket_reso bucket_reso_steps bucket_no_upscale aspect_ratio_bucketing"
    ),
    "latents are always cached, in data.cache_dir": (
        "cache_latents cache_latents_to_disk latent_caching cache_text_encoder_outputs"
    ),
    "there are no regularisation images": (
        "reg_data_dir class_data_dir class_prompt prior_loss_weight with_prior_preservation"
    ),
    "attention is torch's own": (
        "xformers sdpa mem_eff_attn enable_xformers_memory_efficient_attention attention_mechanism"
    ),
    "optimizers keep their state in fp32; memory.limit_gib says how much may be taken": (
        "use_8bit_adam lowram low_vram use_lion_optimizer"
    ),
    "latents are kept, so no process reads images beside": (
        "max_data_loader_n_workers dataloader_num_workers persistent_data_loader_workers"
    ),
}
_KEYS = {name: key for key, names in _OURS.items() for name in names.split()}
_REASONS = {name: reason for reason, names in _NOT_HERE.items() for name in names.split()}


def our_key(name: str) -> str | None:
    """Our key, or group, for what another trainer calls ``name``; None where it is no such name.

    Args:
        name: With or without dashes before it and a group (``--network-dim``, ``lora.r``).
    """
    return _KEYS.get(_leaf(name))


def why_not_here(name: str) -> str | None:
    """Why there is no key for a setting of other trainers; None where it is no such name."""
    return _REASONS.get(_leaf(name))


def _leaf(name: str) -> str:
    return name.strip("-").rsplit(".", 1)[-1].replace("-", "_").lower()
