"""Loggers: each epoch and the test measures of every run, for the trackers that people use. One file per logger."""

from amr.fusion.loggers import csv_file, tensorboard, wandb
from amr.fusion.loggers.base import loggers

__all__ = ["csv_file", "loggers", "tensorboard", "wandb"]
