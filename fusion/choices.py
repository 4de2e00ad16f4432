"""Allowed values of options: fixed lists, and the names of heads, methods, attributions and loggers, without torch."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from amr.common import registry
from amr.common.registry import unknown

if TYPE_CHECKING:
    import numpy as np

OUTPUTS = ("probability", "logit", "centered")
POOLINGS = ("l2", "l1")
LEVELS = ("batch", "clip")
# amr_weight of an attribution if none is given; 1 for all others. With such a weight the ratio need not be reached.
OWN_WEIGHTS = {"permutation": 0.3}
BASELINES = ("zero", "mean")

REGRESSION_LOSSES = ("mse", "l1")
HALF = 0.5  # probability above which a clip has a label
CLASS_WEIGHTS = ("none", "balanced")
ADAPTERS = ("none", "linear", "mlp")
OPTIMIZERS = ("adamw", "adam", "sgd", "adamax")
MOMENTUM = 0.9  # of SGD, if none is given
NORMALIZATIONS = ("standard", "none")
ALL = "all"  # as method of a sweep: every registered one
AMR_OPTIMIZERS = ("shared", "separate")
SELECTIONS = ("accuracy", "loss", "last")

# Option to the room whose files register its names, and the module and variable of the registry.
REGISTRIES: Mapping[str, tuple[str, str, str]] = {
    "--head": ("heads", "amr.fusion.heads.base", "heads"),
    "--method": ("methods", "amr.fusion.methods.base", "methods"),
    "--attribution": ("attribution", "amr.fusion.attribution.base", "attributions"),
    "--logger": ("loggers", "amr.fusion.loggers.base", "loggers"),
}
# Names of publications that are a method under another name, or options of one: in lower case, to what to pass.
OTHER_NAMES: Mapping[str, str] = {
    "bml": "--method ogm --method-option opm=true",
    "mlb": "--method ogm --method-option both_ways=true",
    "g2d": (
        "--method umt --method-option weight=1 --method-option logits=1 --method-option priority_epochs=N, "
        "N half of the epochs"
    ),
    "gb": "--method gradient-blending",
    "d&r": "--method dnr",
}


V = TypeVar("V", float, "np.ndarray")


@dataclass(frozen=True)
class Score:
    """The measure of a task by which epochs and runs are chosen, and whose loss is the use of a modality.

    Args:
        name: Its name in JSON documents and tables of results.
        words: Its name for people.
        least_is_best: Whether lower is better.
        lost: What the use of a modality is, for people.
        measures: Names of the task's measures, in the order of tables, to their words.
    """

    name: str
    words: str
    least_is_best: bool
    lost: str
    measures: Mapping[str, str]

    def gain(self, value: V) -> V:
        """The score, its sign such that more is better; and back."""
        return -value if self.least_is_best else value

    @property
    def main(self) -> dict[str, str]:
        """The score and the measure after it: names to words, where there is room for two.

        >>> SCORES["regression"].main
        {'mae': 'MAE', 'pearson': 'Pearson'}
        """
        return dict(islice(self.measures.items(), 2))

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that it can have."""
        return 0.0, math.inf if self.least_is_best else 1.0

    @property
    def title(self) -> str:
        """Its words at the beginning of a sentence."""
        return self.words[0].upper() + self.words[1:] if self.words.islower() else self.words

    def in_words(self, text: str) -> str:
        """A text about accuracy, as one about this score.

        >>> SCORES["regression"].in_words("accuracy lost if the modality is permuted; accuracy of .5")
        'rise of MAE if the modality is permuted; MAE of .5'
        """
        return text.replace("accuracy lost", self.lost).replace("Accuracy", self.title).replace("accuracy", self.words)


SCORES: Mapping[str, Score] = {
    "multiclass": Score(
        "accuracy", "accuracy", False, "accuracy lost", {"accuracy": "accuracy", "map": "mAP", "f1": "F1"}
    ),
    "multilabel": Score("map", "mAP", False, "mAP lost", {"map": "mAP", "accuracy": "exact match", "f1": "F1"}),
    "regression": Score(
        "mae",
        "MAE",
        True,
        "rise of MAE",
        {"mae": "MAE", "pearson": "Pearson", "acc2": "Acc-2", "acc7": "Acc-7", "f1": "F1"},
    ),
}
TASKS = tuple(SCORES)
# Further measures of which less is better.
ERRORS = ("loss", "ece", "nll", "brier", "one_sided")


def least_is_best(measure: str) -> bool:
    """Whether lower values of a measure are better, by its name in JSON documents.

    >>> least_is_best("mae"), least_is_best("pearson")
    (True, False)
    """
    return measure in ERRORS or any(score.least_is_best for score in SCORES.values() if score.name == measure)


def score_of(document: Mapping[str, Any]) -> Score:
    """Score of the task of a document; earlier versions knew classes alone."""
    return SCORES[document.get("task", "multiclass")]


def own_weight(attribution: str) -> float:
    """amr_weight of an attribution if none is given."""
    return OWN_WEIGHTS.get(attribution, 1.0)


def check_registered(option_name: str, name: str) -> None:
    """Check the name of a head, a method, an attribution or a logger without importing them, which would import torch.

    Args:
        option_name: `--head`, `--method`, `--attribution` or `--logger`.
        name: Name to check.

    Raises:
        ValueError: Nothing of that name is registered.
    """
    room, module, variable = REGISTRIES[option_name]
    names = registered_names(room)
    if names and name not in names and name not in getattr(sys.modules.get(module), variable, ()):
        if (option_name, name.lower()) == ("--method", ALL):
            raise ValueError(f"--method must be one name, got {name}. Use amr sweep --method {ALL} for every method.")
        wrong = [each for each in map(str.strip, name.split(",")) if each not in names]
        if not wrong:
            raise ValueError(f"{option_name} must be one name, got {name}. Use amr sweep {option_name} {name} for all.")
        if option_name == "--method":
            raise unknown_method(option_name, wrong[0])
        heads_of_methods = registered_names("methods") if room == "heads" else ()
        raise unknown(option_name, wrong[0], [each for each in names if each not in heads_of_methods])


def unknown_method(what: str, name: str) -> ValueError:
    """Error for the name of no method, also for one by which a publication calls a method or its options.

    >>> raise unknown_method("--method", "MLB")
    Traceback (most recent call last):
    ValueError: --method must be a name that amr methods lists, got 'MLB'. It is --method ogm --method-option \
both_ways=true; amr methods ogm explains it.
    """
    known = OTHER_NAMES.get(name.lower())
    if known is None:
        return unknown(what, name, registered_names("methods"))
    method = known.split()[1]
    return ValueError(
        f"{what} must be a name that amr methods lists, got {name!r}. It is {known}; amr methods {method} explains it."
    )


def check_momentum(momentum: float | None, optimizer: str | None) -> None:
    """Raise ValueError for a momentum of 1 or more, or one that the optimizer does not have.

    Args:
        momentum: Momentum that is requested; None for none.
        optimizer: Optimizer; None for the method's own, which is not known yet.
    """
    if momentum is None:
        return
    if not 0 <= momentum < 1:
        raise ValueError(f"--momentum must be from 0 to below 1, got {momentum}. The default is {MOMENTUM}.")
    if optimizer not in (None, "sgd"):
        raise ValueError(
            f"--momentum must be used with --optimizer sgd, got {momentum} with {optimizer}. "
            "Add --optimizer sgd, or leave it out."
        )


def registered_names(room: str) -> tuple[str, ...]:
    """Names that the files of a room register."""
    return registry.registered_names(Path(__file__).parent / room)
