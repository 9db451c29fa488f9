"""Which jobs train together, where, with how much memory and for how long: pure functions."""
