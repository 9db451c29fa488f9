"""A sweep while it runs: workers are started, fed, watched and ended, jobs join and leave.

Other rooms use of it:

- ``farm``: what runs a plan;
- ``launching``: what the facades in ``src/hydra_plugins/`` delegate to;
- ``left``: what a launcher that is gone left of a sweep;
- ``news``: what happens while jobs train, for whoever offered them;
- ``outcome``: how the sweep of this process ended;
- ``outside``: what other rooms do for a sweep, which this one does not import;
- ``prepared``: what a sweep left, looked at before it goes on;
- ``sweeping``: a whole sweep as Hydra asks for it.
"""
