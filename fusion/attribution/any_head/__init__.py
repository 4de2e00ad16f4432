"""Heads from outside of this package: checks of what they take and return, and how they are called."""
