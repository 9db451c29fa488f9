"""A third family that knows no picture: ``families/`` and ``tasks/`` are what a person would add to the tree's own."""
