"""A sweep while it runs: workers are started, fed, watched and ended, jobs join and leave."""
