"""The trainer: one step, one epoch, the best epoch."""
