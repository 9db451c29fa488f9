"""What processes say to each other and leave on disk: frozen types for it, one reader and one writer of JSON lines.

``commands`` are told to a worker, ``events`` are what it answers, ``journal`` is what happened in a sweep, ``control``
what a person asks of it, ``states`` what a job can be. ``lines`` reads and writes all of them.

Other rooms use of it:

- ``appending``: appending lines to a file on a disk that may be full for a while;
- ``by_item``: a member's validation image by image;
- ``cards``: what torch says of the cards that a process sees;
- ``commands``: what a worker is told;
- ``control``: what a person asks of a running sweep;
- ``events``: the events that a worker appends to its spool, and how they are read while it still writes;
- ``fields``: what a field of a line may be in JSON, found from its type, and how it is taken from there;
- ``forks``: jobs that begin where another one is;
- ``journal``: the journal's lines;
- ``lines``: JSON lines from frozen types, and back;
- ``outcomes``: ``results.json``;
- ``states``: the states of a job;
- ``summary``: what became of a job that finished;
- ``verdict``: ``verdict.json``, which adapter of a sweep to keep.
"""
