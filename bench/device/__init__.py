"""What a card is worth to this project: ``python -m bench.device``, in under nine minutes, offline, from the tree.

Sections run in the order of their worth and print as they go, so that a measurement that is cut short has told the
most. Weights are drawn on the card: untrained ones time and size like real ones. ``--cpu`` runs all of it small.
"""
