"""What each modality says alone: the part of a joint head's logits, and its loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amr.fusion.attribution import shapley
from amr.fusion.attribution.base import HeadFunction
from amr.fusion.tasks import Task
from amr.fusion.tasks.multiclass import MULTICLASS


def unimodal_logits(head: HeadFunction, z: Mapping[str, Tensor], present: Tensor | None = None) -> Tensor:
    """Part of each modality in the logits of any head, `(modalities, ..., clips, classes)`; they sum to the logits.

    They are the Shapley values of the logits over the subsets of the modalities, absent ones zero, plus an even part of
    the logits of none. For a linear head on concatenated z, W_m z^m + b / M.

    Args:
        head: Function of z and present that returns logits, `(..., clips, classes)`.
        z: Modality to its encoding, `(..., clips, dim)`.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.

    >>> weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> def head(z, present):
    ...     return (z["audio"] + z["video"]) @ weight
    >>> z = {"audio": torch.tensor([[1.0, 1.0]]), "video": torch.tensor([[0.0, 3.0]])}
    >>> unimodal_logits(head, z)
    tensor([[[1., 2.]],
    <BLANKLINE>
            [[0., 6.]]])
    """
    return shapley.unimodal_logits(head, z, all_present(z) if present is None else present)


def subset_logits(head: HeadFunction, z: Mapping[str, Tensor], present: Tensor | None = None) -> Tensor:
    """Logits of a head on each subset of the modalities, the others zero: `(subsets, ..., clips, classes)`.

    From none to all, the last modality changing first: none, video, audio, both. What `shapley_split` takes.

    Args:
        head: Function of z and present that returns logits, `(..., clips, classes)`.
        z: Modality to its encoding, `(..., clips, dim)`.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.

    >>> def head(z, present):
    ...     return z["audio"] * z["video"] + z["audio"]
    >>> values = subset_logits(head, {"audio": torch.tensor([[2.0]]), "video": torch.tensor([[3.0]])})
    >>> values.flatten()
    tensor([0., 0., 2., 8.])
    >>> shapley.shapley_split(values).flatten()
    tensor([5., 3.])
    """
    return shapley.subset_logits(head, z, all_present(z) if present is None else present)


def all_present(z: Mapping[str, Tensor]) -> Tensor:
    """True for each clip and modality, `(..., clips, modalities)`.

    Raises:
        ValueError: There are none, or they are not all `(..., clips, dim)`.
    """
    if len(z) == 0:
        raise ValueError("z must have a modality, got none. Pass z as {name: encodings}.")
    first = next(iter(z.values()))
    shapes = {m: tuple(value.shape) for m, value in z.items()}
    if len({shape[:-1] for shape in shapes.values()}) > 1:
        raise ValueError(
            f"z must be (..., clips, dim) of the same clips for each modality, got {shapes}. "
            "Pass present, bool (..., clips, modalities), if encodings have steps."
        )
    return torch.ones(*first.shape[:-1], len(z), dtype=torch.bool, device=first.device)


def modality_losses(out: Tensor, target: Tensor, present: Tensor | None = None, task: Task = MULTICLASS) -> Tensor:
    """Mean loss of each modality's logits over the clips that have it, `(modalities, ...)`; 0 if none has.

    Of a task with weights of the classes, it is the weighted mean over these clips.

    Args:
        out: Logits of each modality, `(modalities, ..., clips, classes)`.
        target: Classes, `(..., clips)`, or the targets of another task.
        present: Bool `(..., clips, modalities)`; None if every clip has every modality.
        task: What is predicted.

    >>> modality_losses(torch.tensor([[[9.0, -9.0]], [[0.0, 0.0]]]), torch.tensor([0])).round(decimals=3)
    tensor([0.0000, 0.6930])
    """
    valid = torch.ones(out.shape[:-1], dtype=torch.bool, device=out.device)
    valid = valid if present is None else present.movedim(-1, 0)
    return task.loss_over(out, target, valid)
