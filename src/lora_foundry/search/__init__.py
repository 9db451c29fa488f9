"""Searches: what the next trial is, which end early, and what is known of them (Optuna).

Other rooms use of it:

- ``evolving``: a whole population as Hydra asks for it;
- ``found``: what a search found, read from its study;
- ``rates``: many learning rates for a few samples as one pack;
- ``removal``: a job again without one group of its images at a time;
- ``sweeping``: a whole search as Hydra asks for it;
- ``watch``: which jobs of a grid end early.
"""
