"""What every other folder may use: names, places, options, files. No torch outside `devices.py`."""
