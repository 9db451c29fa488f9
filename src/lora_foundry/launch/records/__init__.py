"""A sweep's folder: what is written of it and its jobs, and how that is read again."""
