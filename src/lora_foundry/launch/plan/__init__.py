"""Which jobs train together, where, with how much memory and for how long: pure functions.

Other rooms use of it:

- ``beside``: what scores and pictures will cost beside the steps;
- ``budget``: memory as the plan sees it;
- ``clock``: how long packs take, as far as is known before they train;
- ``packing``: which jobs train together;
- ``refusing``: jobs that no slot has the memory for, however little of them is computed at a time;
- ``sizes``: how many members train together.
"""
