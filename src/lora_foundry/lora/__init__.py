"""LoRA adapters: injection through PEFT, the bank and packed layers of a pack, and the file formats.

Other rooms use of it:

- ``bank``: the adapters of a whole pack in one block of memory;
- ``dropout``: which inputs LoRA dropout drops, the same on every device;
- ``formats.adapter``: the neutral form of an image adapter;
- ``formats.apply``: the plainest way to use an adapter;
- ``formats.check``: reading a written file back;
- ``formats.copying``: copies of finished adapters in a folder that others write to as well, such as a web UI's;
- ``formats.diffusers_file``: Diffusers' format;
- ``formats.kohya``: Kohya's format;
- ``formats.metadata``: what the header of an adapter file says besides the tensors;
- ``formats.names``: module names;
- ``formats.read``: reading an adapter file of any image format;
- ``formats.sidecar``: ``<name>.json`` beside an adapter;
- ``formats.values``: whether an adapter's numbers can be gone on from;
- ``init_from``: whether a job can go on from an adapter's file, told from the file's header alone;
- ``inject``: putting adapters into a base through PEFT. The only file that knows PEFT's custom-module route;
- ``kinds``: kinds of adapter (``lora.kind``), a folder each;
- ``rows``: which rows of a joined batch belong to which member.
"""
