"""What is predicted: one class per clip, any number of labels, or a number. One file per task, listed by `--task`."""

from amr.fusion.tasks import multiclass, multilabel, regression
from amr.fusion.tasks.base import Task, tasks

__all__ = ["Task", "multiclass", "multilabel", "regression", "tasks"]
