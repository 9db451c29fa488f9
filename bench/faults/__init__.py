"""Faults done to real sweeps: real workers, the embedded base, real drawings, a real MLflow database.

``sweeps`` runs them, ``injections`` and ``broken`` hurt them, ``checks`` compares what is left with a sweep that nobody
disturbed, ``process``, ``storage``, ``store`` and ``inside`` tell the stories, ``catalogue`` lists them.
``tests/faults`` runs each story once; ``python -m bench.soak`` runs them by the number, or at random for a given time.
"""
