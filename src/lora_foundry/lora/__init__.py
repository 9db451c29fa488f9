"""LoRA adapters: injection through PEFT, the bank and packed layers of a pack, and the file formats."""
