"""Training packs. Read :mod:`src.training.pack_step` first: it says what a step is."""
