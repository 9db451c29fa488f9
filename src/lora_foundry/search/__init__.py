"""Searches: what the next trial is, which end early, and what is known of them (Optuna).

Other rooms use of it:

- ``sweeping``: a whole search as Hydra asks for it;
- ``watch``: which jobs of a grid end early.
"""
