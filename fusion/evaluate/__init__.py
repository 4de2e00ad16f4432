"""Functional measures of what fitted heads rely on, with intervals, for one run or a whole sweep."""
