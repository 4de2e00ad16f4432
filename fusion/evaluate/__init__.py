"""What a fitted head relies on: the functional measures, with intervals, for one run or all runs of a sweep."""
