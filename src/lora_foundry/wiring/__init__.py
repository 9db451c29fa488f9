"""Where rooms meet: what the farm asks of data, models, memory and report, which it does not import.

Commands and Hydra's plugins take :func:`lora_foundry.wiring.outside.outside`; no room imports this one. All of it is
imported late, since ``--help`` and a plan whose predictions are kept load no torch.

Other rooms use of it:

- ``grouping``: groups of a job's training images;
- ``here``: what this machine would do with jobs, told without a sweep;
- ``outside``: all that the farm is given;
- ``preflight``: what other rooms know of a job before it trains;
- ``told``: a sweep's records as the report is told them.
"""
