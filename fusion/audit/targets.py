"""Targets of a batch: class numbers, labels or numbers, checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def read_target(target: Any, task: str) -> Tensor:
    """Targets of a batch on the CPU.

    Args:
        target: Targets as a batch has them.
        task: Task of the model.

    Returns:
        Class numbers `(batch,)` for multiclass; else float32: labels `(batch, labels)` of 0 and 1, or numbers
        `(batch,)`.

    Raises:
        ValueError: The targets are not of this task.
    """
    try:
        target = torch.as_tensor(target).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        kind = type(target).__name__
        if isinstance(target, list | tuple) and target:
            kind += f" of {type(target[0]).__name__}"
        raise ValueError(
            f"target must be a tensor or an array of numbers, got a {kind}. Pass for example the place of each clip's "
            "class in a list of all classes."
        ) from None
    if target.is_complex():
        raise ValueError(f"target must be real numbers, got {_kind(target)}. Pass for example target.real.")
    if task == "multilabel":
        return _labels(target)
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    return _numbers(target) if task == "regression" else _class_numbers(target)


def check_some_label(target: Tensor, task: str) -> None:
    """Raise ValueError for labels of which no clip has any: mAP is not defined."""
    if task == "multilabel" and not bool(target.any()):
        raise ValueError(
            f"target must have a label that a clip has, got {target.shape[1]} without any clip. Pass batches of other "
            "clips, or check the target."
        )


def _class_numbers(target: Tensor) -> Tensor:
    if target.ndim != 1 or not _is_whole(target) or bool((target < 0).any()):
        advice = "Pass for example one_hot.argmax(-1)."
        if target.ndim == 1:
            advice = 'Pass task="regression" if they are numbers to predict.'
        elif target.ndim == 2 and _is_binary(target):
            advice = 'Pass task="multilabel" if a clip has any number of labels, or one_hot.argmax(-1).'
        raise ValueError(f"target must be class numbers (batch,), got {_kind(target)}. {advice}")
    return target.long()


def _labels(target: Tensor) -> Tensor:
    rule = 'target must be labels (batch, labels) of 0 and 1 for task="multilabel"'
    if target.ndim != 2:
        advice = "Pass for example torch.nn.functional.one_hot(target, num_labels), or leave out task for classes."
        if target.ndim != 1 or not _is_whole(target):
            advice = "Pass one column per label."
        raise ValueError(f"{rule}, got {_kind(target)}. {advice}")
    wrong = target[(target != 0) & (target != 1)]
    if len(wrong):
        between = bool(((wrong > 0) & (wrong < 1)).all())
        advice = "Pass for example target > 0.5." if between else "Leave out clips whose labels are not known."
        raise ValueError(f"{rule}, got {wrong[0].item():g}. {advice}")
    return target.float()


def _numbers(target: Tensor) -> Tensor:
    rule = 'target must be one number per clip, (batch,), for task="regression"'
    if target.ndim != 1:
        advice = "Pass for example target[:, 0], and audit one number at a time."
        if target.ndim != 2:
            advice = "Pass one number per clip."
        elif _is_binary(target):
            advice = 'Pass task="multilabel" for labels of 0 and 1.'
        raise ValueError(f"{rule}, got {_kind(target)}. {advice}")
    if not bool(torch.isfinite(target).all()):
        raise ValueError(f"{rule}, got NaN or infinity. Leave out clips without a number.")
    return target.float()


def _is_whole(target: Tensor) -> bool:
    return not target.is_floating_point() or bool((torch.isfinite(target) & (target == target.round())).all())


def _is_binary(target: Tensor) -> bool:
    return bool(((target == 0) | (target == 1)).all())


def _kind(target: Tensor) -> str:
    return f"{target.dtype} {tuple(target.shape)}"
