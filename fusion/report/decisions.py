"""Decisions of runs on each test clip, from evaluation.npz or the predictions.csv of a single run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from amr.common.files import read_whole, whole_file
from amr.fusion.choices import HALF
from amr.fusion.runs.read import Run

SEPARATOR = ";"  # of labels in predictions.csv
ADVICE = "Run amr evaluate again."


@dataclass(frozen=True)
class Decisions:
    """Decisions of runs on each clip.

    Args:
        task: Task: multiclass, multilabel or regression.
        runs: Names of the runs, the first axis.
        ids: Ids of the clips, `(clips,)`, text.
        target: Class indices `(clips,)`; labels `(clips, labels)`, 0 or 1; or numbers `(clips,)`.
        preds: Predicted class indices `(run, clips)`, -1 if a run was not tested on a clip; labels
            `(run, clips, labels)`, 0 or 1; or numbers `(run, clips)`, NaN if a run was not tested on a clip.
        shares: Shares, `(run, clips, modalities)`; NaN if a clip has none.
        confidence: Probability of the predicted class, `(run, clips)`; None if it is not known.
        probability: Probabilities, `(run, clips, classes)`, NaN if a run was not tested on a clip; None if the files do
            not have them.
        fold: Fold that each clip is tested in, `(clips,)`; None without folds.
    """

    task: str
    runs: tuple[str, ...]
    ids: np.ndarray
    target: np.ndarray
    preds: np.ndarray
    shares: np.ndarray
    confidence: np.ndarray | None = None
    probability: np.ndarray | None = None
    fold: np.ndarray | None = None

    def of(self, names: Sequence[str]) -> Decisions:
        """Decisions of the named runs, as far as they are here."""
        rows = [i for i, name in enumerate(self.runs) if name in set(names)]
        return replace(
            self,
            runs=tuple(self.runs[i] for i in rows),
            preds=self.preds[rows],
            shares=self.shares[rows],
            confidence=None if self.confidence is None else self.confidence[rows],
            probability=None if self.probability is None else self.probability[rows],
        )

    @cached_property
    def tested(self) -> np.ndarray:
        """Whether each run was tested on each clip, `(run, clips)`."""
        if self.task == "multilabel":
            return np.isfinite(self._probabilities).all(-1)
        if self.task == "regression":
            return np.isfinite(self.preds)
        return (self.preds >= 0) & (self.target >= 0)

    @cached_property
    def right(self) -> np.ndarray:
        """Whether each decision is right, `(run, clips)`: of labels, all of them. A number never is."""
        if self.task == "multilabel":
            return (self.preds == self.target).all(-1)
        return (self.preds == self.target) & (self.task == "multiclass")

    def has(self, label: int) -> np.ndarray:
        """Whether each clip is of a class, or has a label, `(clips,)`."""
        return self.target[:, label] > 0 if self.task == "multilabel" else self.target == label

    def known(self, num_classes: int) -> list[int]:
        """Classes or labels that a clip has, by number."""
        return [c for c in range(num_classes) if self.has(c).any()]

    def predicts(self, label: int) -> np.ndarray:
        """Whether each run predicts a class or label for each clip, `(run, clips)`."""
        return self.preds[..., label] > 0 if self.task == "multilabel" else self.preds == label

    @cached_property
    def errors(self) -> np.ndarray:
        """How wrong each decision is, `(run, clips)`: of a number, its error; else the loss of probabilities.

        A loss is minus the log-probability of what is true: of a class, or the sum over the labels. Saved
        probabilities have three digits: of two that are rounded to 0, the surer error is the larger.
        """
        if self.task == "regression":
            return np.abs(self.preds - self.target)
        tiny = np.finfo(np.float16).tiny
        if self.task == "multilabel":
            of_truth = np.where(self.target > 0, self._probabilities, 1 - self._probabilities)
            return -np.log(np.maximum(of_truth, tiny)).sum(-1)
        sure = np.zeros(self.preds.shape) if self.confidence is None else np.nan_to_num(self.confidence.astype(float))
        if self.probability is None:
            return sure
        of_truth = np.take_along_axis(self.probability, np.maximum(self.target, 0)[None, :, None], axis=-1)[..., 0]
        return -np.log(np.maximum(np.nan_to_num(of_truth.astype(float)), tiny)) + tiny * sure

    @property
    def _probabilities(self) -> np.ndarray:
        if self.probability is None:
            raise TypeError("probability must be known")
        return self.probability


def of_evaluation(file: Path, task: str, names: tuple[str, ...]) -> Decisions | None:
    """Decisions in evaluation.npz; None of labels whose probabilities were too many to save.

    Args:
        file: Path of the file.
        task: Task of its runs.
        names: Names of its runs.
    """
    content = read_whole(file, "DIR", ADVICE)
    with whole_file(file, "DIR", ADVICE), np.load(io.BytesIO(content)) as arrays:
        ids, shares = arrays["ids"].astype(str), arrays["shares"].astype(float)
        probability = arrays["probability"].astype(np.float32) if "probability" in arrays else None
        fold = arrays.get("fold")
        if task == "multilabel" and probability is None:
            return None
        target = arrays["target"] if task == "regression" else arrays["target"].astype(int)
        if task == "multilabel" and probability is not None:
            preds, confidence = (probability > HALF).astype(int), None
        else:
            preds = arrays["preds"] if task == "regression" else arrays["preds"].astype(int)
            confidence = None if probability is None else probability.max(-1)
        known = shares.shape[:2]
        of_runs = [each.shape[:2] for each in (preds, probability) if each is not None]
        if known != (len(names), len(ids)) or target.shape[:1] != ids.shape or any(each != known for each in of_runs):
            raise ValueError("its arrays are not of these runs and clips")
        return Decisions(task, names, ids, target, preds, shares, confidence, probability, fold)


def of_predictions(run: Run) -> Decisions | None:
    """Decisions in the predictions.csv of a single run; None if it has none, or labels with a separator in a name."""
    table, task = run.predictions(), run.config.task
    if table is None or table.empty:
        return None
    if task == "multilabel" and any(SEPARATOR in name for name in run.record.classes):
        return None
    shares = table[[f"share_{m}" for m in run.modalities]].to_numpy(float)[None]
    ids = table["id"].to_numpy(str)
    if task == "regression":
        target, preds = (pd.to_numeric(table[name]).to_numpy(float) for name in ("target", "pred"))
        return Decisions(task, (run.name,), ids, target, preds[None], shares)
    if task == "multilabel":
        probability = table[[f"probability_{name}" for name in run.record.classes]].to_numpy(np.float32)
        target = _labels(table["target"], run.record.classes)
        preds = (probability > HALF).astype(int)[None]
        return Decisions(task, (run.name,), ids, target, preds, shares, None, probability[None])
    codes = {name: i for i, name in enumerate(run.record.classes)}
    target, preds = (table[name].map(codes).to_numpy(int) for name in ("target", "pred"))
    confidence = table["probability"].to_numpy(float)[None]
    return Decisions(task, (run.name,), ids, target, preds[None], shares, confidence)


def _labels(cells: pd.Series, names: Sequence[str]) -> np.ndarray:
    """Labels of each clip, `(clips, labels)`, 0 or 1."""
    found = [{*str(cell).split(SEPARATOR)} for cell in cells]
    return np.array([[int(name in cell) for name in names] for cell in found]).reshape(len(found), len(names))
