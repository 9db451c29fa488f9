"""Hydra's way into LoRA Foundry: a launcher, a sweeper and the search path of named sweeps."""
