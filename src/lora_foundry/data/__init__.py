"""Captioned images: found, checked, turned into latents and text states once, and drawn in a stateless order.

The way through the room, in the order of use:

- :mod:`lora_foundry.data.checks` reads the folders and reports every problem at once (no torch is imported for it);
- :mod:`lora_foundry.data.encoding` turns the checked records into cached latents and text states;
- :mod:`lora_foundry.data.order` says which image, variant and caption a sample's ordinal stands for.
"""
