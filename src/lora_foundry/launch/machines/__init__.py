"""Devices and cores, whose turn it is on them, and the engines that start workers there.

Other rooms use of it:

- ``engine``: what starts, watches and ends workers;
- ``engines``: engines, a file each (``hydra.launcher.engine``);
- ``sharing``: the devices of one machine, shared by its sweeps;
- ``starting``: workers on their way;
- ``workers``: how many workers the CPU gets where the user did not say.
"""
