"""LoRA Foundry: train many adapters on one frozen base, and see which to keep."""
