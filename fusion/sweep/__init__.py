"""Many fits at once: sweeps, table 1, their pictures."""
