"""Which adapter is best, by how much and how sure: the one notion that table, picture, MLflow and status ask.

Other rooms use of it:

- ``ranking``: which job of a sweep is best;
- ``rates``: which learning rate to use, from a short run of many;
- ``removal``: what each group of training images does to the held-out loss;
- ``verdict``: which adapter of a sweep to keep, in one sentence with numbers.
"""
