"""Shared ground of every other folder: names, paths, options, files. No torch outside `devices.py`."""
