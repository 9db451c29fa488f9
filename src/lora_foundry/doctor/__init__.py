"""What this machine is to a training: looked at without training anything, and without waiting for what hangs.

Other rooms use of it:

- ``examining``: everything that is looked at, and what is wrong;
- ``screen``: the same for people, on one screen.
"""
