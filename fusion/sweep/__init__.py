"""Many fits at once: sweeps, table 1, and their pictures."""
