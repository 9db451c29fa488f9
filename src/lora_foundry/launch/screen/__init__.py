"""What people see: live lines, plans, tables, the state of sweeps.

Other rooms use of it:

- ``live``: what the user sees while jobs train;
- ``planboard``: a plan as people read it (``hydra.launcher.plan_only=true``);
- ``table``: the table at the end of a sweep, and the paths and commands below it;
- ``watching``: the ledger on a terminal.
"""
