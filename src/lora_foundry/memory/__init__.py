"""Memory as a number that is known before launch, and a shortage of it as something a job survives.

Other rooms use of it:

- ``attention``: which kernels compute attention on a device;
- ``between``: what encoding, validation and drawing will take, beside a step;
- ``ladder``: what gives way when memory runs out, and in which order;
- ``libraries``: what a card's libraries take beside a training's own tensors;
- ``limit``: ``memory.limit_gib`` on the CPU and on a GPU;
- ``pace``: how long a step will take, before any was measured;
- ``paces``: how long steps took;
- ``predict``: what training will take, before anything runs;
- ``record``: what predictions were off by;
- ``table``: what ``python -m src.predict`` prints;
- ``watch``: seeing a host run short of memory before its kernel ends a process over it.
"""
