"""From the words of a command line to checked points: composed, named, and looked at before anything is made.

Other rooms use of it:

- ``argv``: the words of a command line, in any order;
- ``check``: wrong keys and group options of a command line, all at once, before Hydra composes anything;
- ``completion``: tab completion in bash;
- ``composing``: composing the points of one sweep;
- ``disks``: what a disk can take;
- ``driving``: Hydra's parts, called one after the other for a command line that was looked at before;
- ``folds``: cross-validation: a job a fold of each point;
- ``hydra_keys``: Hydra's own keys and groups;
- ``names``: adapter names;
- ``offline``: the points of a command line without launching anything;
- ``point``: the points of a sweep;
- ``preflight``: what jobs name is looked at before anything is made;
- ``spread``: the points of a sweep from its words;
- ``writable``: whether a sweep can write where it is to write, asked before anything starts.
"""
