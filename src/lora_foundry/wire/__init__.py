"""What processes say to each other and leave on disk: frozen types for it, one reader and one writer of JSON lines.

``commands`` are told to a worker, ``events`` are what it answers, ``journal`` is what happened in a sweep, ``control``
what a person asks of it, ``states`` what a job can be. ``lines`` reads and writes all of them.
"""
