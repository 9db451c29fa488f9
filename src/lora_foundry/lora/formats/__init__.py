"""Image adapters as files: kohya's format for people, diffusers' for code, and back again."""
