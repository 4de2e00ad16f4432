"""Recipes: published settings of methods by data set, for `--recipe DATASET/METHOD`."""
