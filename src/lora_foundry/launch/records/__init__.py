"""A sweep's folder: what is written of it and its jobs, and how that is read again.

Other rooms use of it:

- ``finding``: which sweep or job a word means;
- ``folders``: the folder of a sweep and the folders of its jobs;
- ``journal``: the sweep's append-only record of what happened to each job;
- ``ledger``: every sweep and job below a folder, as files tell it;
- ``leftover``: a sweep whose launcher was killed;
- ``lengthening``: training a job for longer than it was asked for;
- ``live_jobs``: a job of a sweep that runs;
- ``reading``: the state of a sweep as its folder tells it;
- ``record``: ``sweep.json``, the record of a sweep in its folder;
- ``resume``: going on with what a sweep left;
- ``search``: ``search.json``, what a sweep that is a search goes on with;
- ``state``: the state of a sweep;
- ``stored_jobs``: a sweep's jobs as their folders have them;
- ``unchanged``: whether a job that has begun would train with the same configuration and the same data now.
"""
