"""`amr report`: folders of runs and sweeps as one self-contained page."""
