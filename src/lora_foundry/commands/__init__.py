"""What can be typed: a module for each command, whose ``main`` returns the exit code."""
