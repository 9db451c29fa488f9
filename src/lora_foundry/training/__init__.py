"""Training packs. Read :mod:`lora_foundry.training.pack_step` first: it says what a step is."""
