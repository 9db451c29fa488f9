"""Searches: what the next trial is, which end early, and what is known of them (Optuna).

Other rooms use of it:

- ``rates``: many learning rates for a few samples as one pack;
- ``sweeping``: a whole search as Hydra asks for it;
- ``watch``: which jobs of a grid end early.
"""
