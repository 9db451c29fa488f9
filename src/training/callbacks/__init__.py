"""What happens around the steps, a Lightning callback a concern; :mod:`src.training.fit` gives their order."""
