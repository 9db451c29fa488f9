"""Training packs. Read :mod:`lora_foundry.training.pack_step` first: it says what a step is.

Other rooms use of it:

- ``bases``: the base in memory, kept warm from pack to pack;
- ``batch``: joining one micro-batch of every active member into one batch;
- ``device``: the one device that this process trains on;
- ``fit``: training one pack from its first step, or its last checkpoint, to every member's end;
- ``job_config``: a job's configuration as it lies in its folder, with what a shortage of memory changed of it;
- ``member``: a job while it trains;
- ``optimizers``: optimizers, a file each;
- ``pack``: the members that train together, and what they share;
- ``pack_step``: what a step is;
- ``peaks``: what a training took at its peaks, told apart by what it was doing;
- ``precision``: what each of Lightning's precision names means here;
- ``preparing``: from a pack's jobs to members;
- ``probing``: what an error says of the device;
- ``requests``: what is asked of a pack while it trains;
- ``schedules``: the learning rate of a step;
- ``shortage``: running out of memory while a pack trains;
- ``sink``: where a training's events go;
- ``validation``: a validation that means something.
"""
