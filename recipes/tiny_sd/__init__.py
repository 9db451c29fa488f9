"""Train the tiny Stable Diffusion of `assets/tiny-sd`, and draw the two style datasets beside it."""
