"""Recipes that rebuild the assets which the repository ships."""
