"""Devices and cores, whose turn it is on them, and the engines that start workers there.

Other rooms use of it:

- ``asking``: what torch sees, and what the driver shows, asked in processes that end at once;
- ``cards``: the cards that workers can have, and why they cannot;
- ``devices``: the GPUs of this machine, as the driver reports them;
- ``engine``: what starts, watches and ends workers;
- ``engines``: engines, a file each (``hydra.launcher.engine``);
- ``sharing``: the devices of one machine, shared by its sweeps;
- ``starting``: workers on their way;
- ``torch_build``: what the installed torch is built for;
- ``visibility``: what CUDA_VISIBLE_DEVICES and its like leave;
- ``workers``: how many workers the CPU gets where the user did not say.
"""
