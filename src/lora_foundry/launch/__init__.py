"""From composed jobs to finished adapters: plan, worker supervision, journal, terminal. Never imports torch."""
