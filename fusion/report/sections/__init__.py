"""The sections of the page: one file per kind of picture."""
