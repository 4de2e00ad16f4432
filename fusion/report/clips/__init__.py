"""Clips on the page: which are shown, and their frames, sound and steps."""
