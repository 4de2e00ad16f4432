"""A fitted run as a plain `torch.nn.Module`, for code outside of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from amr.common.workspace import find_run
from amr.fusion.data.clips import Batch
from amr.fusion.data.normalization import Normalization
from amr.fusion.data.targets import TargetScale
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import pad_steps, pool_steps
from amr.fusion.runs.read import chosen_run
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.weights import FittedRun, read_fitted
from amr.fusion.tasks import tasks


class FittedHead(nn.Module):
    """Normalization, adapters and head of one run: from embeddings as cached to logits, or to the number.

    Args:
        record: Record of the run (config.json).
        model: Model of the run.
        normalization: Normalization of the run.
        scale: Scale of a number that is predicted; None for classes and labels.

    Attributes:
        modalities: Names of the embeddings, in order.
        classes: Names of the classes or labels, in the order of the logits; of a number, its name.
        task: Task of the run.
    """

    def __init__(
        self, record: RunRecord, model: FusionModel, normalization: Normalization, scale: TargetScale | None = None
    ) -> None:
        super().__init__()
        self.task, self.scale = record.config.task, scale
        self.modalities = tuple(record.modalities)
        self.classes = record.classes
        self.embed_dims = dict(model.shape.embed_dims)
        self.model = model
        self.register_buffer("seen", torch.tensor([normalization.seen[m] for m in self.modalities]))
        for name, values in (("mean", normalization.mean), ("std", normalization.std)):
            for i, m in enumerate(self.modalities):
                self.register_buffer(f"{name}_{i}", values[m].clone())

    def forward(
        self,
        embeddings: Mapping[str, Tensor],
        present: Tensor | None = None,
        num_steps: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Compute logits, `(batch, classes)`; of a number `(batch, 1)`, in its own units.

        Args:
            embeddings: Modality to `(batch, dim)` or `(batch, steps, dim)`, as cached. Modalities may be left out.
            present: Bool `(batch, modalities)`, in the order of `modalities`; None if every clip has every modality
                that is given.
            num_steps: Modality to the number of valid steps, `(batch,)`; None if all steps are valid. Steps of NaN
                are never valid.

        Raises:
            ValueError: A name is unknown, nothing is given, or a shape does not fit.
        """
        self._check(embeddings, present)
        batch = len(next(iter(embeddings.values())))
        reference = cast(Tensor, self.mean_0)
        known = torch.tensor([m in embeddings for m in self.modalities], device=reference.device)
        valid = (known & cast(Tensor, self.seen)).expand(batch, -1)
        valid = valid if present is None else valid & present
        z = {}
        for i, m in enumerate(self.modalities):
            if m not in embeddings:
                z[m] = reference.new_zeros(1, batch, self.embed_dims[m])
                continue
            steps = None if num_steps is None else num_steps.get(m)
            z[m] = self._normalized(i, embeddings[m].to(reference.dtype), steps, valid[:, i])[None]
        target = torch.zeros(1, batch, dtype=torch.long, device=reference.device)
        outputs: Tensor = self.model(Batch(z, valid[None], target))[0]
        return outputs if self.scale is None else self.scale.undo(outputs)

    def _normalized(self, i: int, x: Tensor, num_steps: Tensor | None, valid: Tensor) -> Tensor:
        if x.ndim == 3:
            missing = x.isnan().any(-1)
            counted = (~missing).sum(1) if num_steps is None else num_steps.to(x.device)
            x = pad_steps(x, counted) if self.model.head.takes_steps else pool_steps(x, counted)
        x = (x - getattr(self, f"mean_{i}")) / getattr(self, f"std_{i}")
        unused = x.isnan() | ~valid.view(-1, *[1] * (x.ndim - 1))
        return x.masked_fill(unused, 0)

    def _check(self, embeddings: Mapping[str, Tensor], present: Tensor | None) -> None:
        names = ", ".join(self.modalities)
        if not embeddings or not set(embeddings) <= set(self.modalities):
            raise ValueError(f"embeddings must be named {names}, got {', '.join(embeddings) or 'none'}. Rename them.")
        sizes = {len(x) for x in embeddings.values()}
        if len(sizes) > 1:
            raise ValueError(
                f"embeddings must have one batch size, got {sorted(sizes)}. Pass the same clips of each modality."
            )
        for m, x in embeddings.items():
            if x.ndim not in (2, 3) or x.shape[-1] != self.embed_dims[m]:
                raise ValueError(
                    f"{m} must be (batch, {self.embed_dims[m]}) or (batch, steps, {self.embed_dims[m]}), "
                    f"got {tuple(x.shape)}. Pass it as cached."
                )
        shape = (*sizes, len(self.modalities))
        if present is not None and (present.dtype != torch.bool or tuple(present.shape) != shape):
            raise ValueError(
                f"present must be bool {shape}, got {present.dtype} {tuple(present.shape)}. Its columns are {names}."
            )


class MeanOverFolds(nn.Module):
    """Mean over the heads of all folds: of log-probabilities of classes, of logits of labels, or of the number.

    Args:
        heads: Head of each fold.
    """

    def __init__(self, heads: list[FittedHead]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.modalities, self.classes, self.task = heads[0].modalities, heads[0].classes, heads[0].task

    def forward(
        self,
        embeddings: Mapping[str, Tensor],
        present: Tensor | None = None,
        num_steps: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Compute mean outputs, `(batch, outputs)`; arguments as for `FittedHead`."""
        outputs = torch.stack([head(embeddings, present, num_steps) for head in self.heads])
        return (outputs.log_softmax(-1) if tasks[self.task].one_class else outputs).mean(0)


def load_head(
    run: str | Path, fold: int | None = None, device: torch.device | str = "cpu"
) -> FittedHead | MeanOverFolds:
    """Load a fitted run as a module, in evaluation mode.

    Args:
        run: Folder or name of a run; of a sweep or table, the best run by val is loaded.
        fold: Fold of a cross-validated run; None for the mean over all folds.
        device: Device of the weights.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: The run has no such fold.

    Example:
        >>> head = load_head("runs/even")  # doctest: +SKIP
        >>> logits = head({"audio": audio, "video": video})  # doctest: +SKIP
    """
    fitted = read_fitted(chosen_run(find_run(run)), device)
    heads = [
        FittedHead(fitted.record, *of_fold)
        for of_fold in zip(fitted.models, fitted.normalizations, fitted.scales, strict=True)
    ]
    if fold is None:
        return heads[0].eval() if len(heads) == 1 else MeanOverFolds(heads).eval()
    if not 0 <= fold < len(heads) or fitted.record.config.folds == 0:
        raise ValueError(_no_such_fold(fitted, fold))
    return heads[fold].eval()


def _no_such_fold(fitted: FittedRun, fold: int) -> str:
    folds = fitted.record.config.folds
    if folds == 0:
        return f"fold must be left out for a run without folds, got {fold}. Leave it out."
    return f"fold must be from 0 to {folds - 1}, got {fold}. Leave it out for the mean over folds."
