"""Captioned images: found, checked, turned into latents and text states once, and drawn in a stateless order.

The way through the room, in the order of use:

- :mod:`lora_foundry.data.checks` reads the folders and reports every problem at once (no torch is imported for it);
- :mod:`lora_foundry.data.encoding` turns the checked records into cached latents and text states;
- :mod:`lora_foundry.data.order` says which image, variant and caption a sample's ordinal stands for.

Other rooms use of it:

- ``cache``: a content-addressed store of tensors, shared by the jobs of a sweep and by later sweeps;
- ``checks``: everything that can be wrong with a data set, found before a base is loaded and reported at once;
- ``encoding``: latents and text states of a data set, computed once and kept in the cache;
- ``grouping``: groups of images, each with what leaves it out;
- ``images``: one image as it is learned from;
- ``inventory``: what a data set is made of, file by file, so that a later look tells what changed since;
- ``kohya``: folders named as kohya's trainers want them;
- ``listing``: what a data set consists of as its folders and captions tell, before any image is opened;
- ``order``: which image, variant and caption a sample's ordinal stands for;
- ``records``: the values that the room passes on, and the error that lists everything wrong with a data set;
- ``transform``: how images become squares, and in which variants.
"""
