"""Lists of clips: what to extract, with labels, splits and groups."""
