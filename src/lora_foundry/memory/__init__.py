"""Memory as a number that is known before launch, and a shortage of it as something a job survives."""
