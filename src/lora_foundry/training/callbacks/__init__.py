"""What happens around the steps, a Lightning callback a concern; :mod:`lora_foundry.training.fit` gives their order."""
