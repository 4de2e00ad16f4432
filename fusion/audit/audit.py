"""Is my own model listening? What any PyTorch model relies on, from batches of its own inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from amr.common.progress import Progress
from amr.common.registry import unknown
from amr.fusion.attribution.any_head.call import evaluation_mode
from amr.fusion.attribution.tap.logits import Which
from amr.fusion.attribution.tap.tap import tap
from amr.fusion.audit.batches import Key, Modalities, Requested, read_batches, reread
from amr.fusion.audit.folder import TARGET, AuditRecord
from amr.fusion.audit.measure import Settings, measure_batches
from amr.fusion.audit.model import AnyModel
from amr.fusion.audit.partners import draw_partners
from amr.fusion.audit.result import Audit
from amr.fusion.audit.survey import Survey, survey
from amr.fusion.audit.targets import check_some_label
from amr.fusion.choices import SCORES
from amr.fusion.evaluate.measures.conflict import Conflict
from amr.fusion.evaluate.per_clip import PerClip
from amr.fusion.tasks import tasks

MEMORY_BYTES = 2**30


def audit(
    model: Callable[..., Any],
    batches: Iterable[Any],
    *,
    modalities: Requested = None,
    target: Key | None = None,
    task: str = "multiclass",
    encoders: Mapping[str, str | nn.Module] | None = None,
    logits: Which = None,
    train: Iterable[Any] | None = None,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    num_permutations: int = 10,
    noise_draws: int = 1,
    num_bootstrap: int = 1000,
    memory_bytes: int = MEMORY_BYTES,
    seed: int = 0,
    device: torch.device | str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Measure what a model relies on, on batches of its own inputs. No cache is needed.

    The measures are those of `amr evaluate`, each with a 95 % interval over clips:

    - use: the accuracy lost if a modality comes from another clip, and use shares
    - alone: the accuracy with the mean of the other modalities, if all are tensors of one shape
    - conflict: which modality the prediction follows if two are of different classes
    - robustness: accuracy under Gaussian noise of 0 to 1 standard deviations, in modalities that are floating point
    - calibration: ECE, NLL and Brier score
    - share: gradient x input at the output of each encoder, if `encoders` names them

    With `task="multilabel"` or `"regression"`, use and the other levels are of the mAP or the MAE (use is mAP lost, or
    the rise of MAE), and conflict and calibration, which are of classes, are left out.

    The batches are read twice. Memory holds one batch, a sample of clips that others take their modalities from (at
    most `memory_bytes`; all clips, if they fit), and a few numbers per clip; mAP needs the outputs of all clips
    together, which lie in temporary files. The model runs about
    (2^M - 1) (num_permutations + 1) + M (M - 1) / 2 num_permutations + 4 M times on each of them, for M modalities: 50
    times for two. It is in evaluation mode meanwhile, and its weights and buffers stay as they are.

    Args:
        model: Module or function that returns logits, an object with `logits`, or what `logits` selects from. It is
            called as `model(*inputs)` with a tuple; with a mapping as `model(**inputs)` if its parameters have these
            names, else as `model(inputs)`.
        batches: Pairs of inputs and target, such as a DataLoader of the test clips. Inputs are a mapping or a tuple;
            each entry is a tensor `(batch, ...)`, or a mapping of tensors, such as a tokenizer's output, which is
            replaced as one. Targets are class numbers, `(batch,)`; of other tasks, see there. Shorter clips of another
            batch are padded with zeros.
        modalities: Names of the modalities in the order of a tuple, or modality to the names or positions of the
            inputs that belong to it: {"text": ["input_ids", "attention_mask"], "image": "pixel_values"}. Other inputs
            stay as they are. By default every input is a modality.
        target: Name or position of the target, if batches are not pairs: "labels", or -1 for the last.
        task: What the model predicts. `multiclass`: one class per clip. `multilabel`: any number of labels; targets are
            0 and 1, `(batch, labels)`, and outputs the logit of each label. `regression`: a number, `(batch,)`; outputs
            are `(batch,)` or `(batch, 1)`, in the units of the target.
        encoders: Modality to the module that returns its encoding, as for `amr.tap`.
        logits: Which output of the model holds the logits, or the numbers, as for `amr.tap`.
        train: Batches of train clips, for the mean that stands for a modality that is left out, and for the deviation
            of noise; by default those of `batches`.
        classes: Names of the classes or labels, by default their numbers; of a number, its name.
        name: Name of the model on pages; by default that of its class.
        num_permutations: Number of partners of each clip, for use and for conflict.
        noise_draws: Number of draws of noise per level.
        num_bootstrap: Number of bootstrap samples for the intervals; 0 for none.
        memory_bytes: Memory for held clips.
        seed: Seed of all draws.
        device: Device of the inputs; by default that of the model.
        out: Folder for the result, which `amr report` shows: a name in runs/, or a path with a slash.
        progress: Listener.

    Raises:
        ValueError: The inputs, targets, logits or modules do not fit together; the message says what to pass.

    Example:
        >>> import amr
        >>> class Model(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.audio, self.video, self.fusion = (torch.nn.Linear(n, 4) for n in (3, 5, 8))
        ...     def forward(self, audio, video):
        ...         return self.fusion(torch.cat([self.audio(audio), self.video(video)], dim=-1))
        >>> clips = torch.utils.data.TensorDataset(torch.randn(60, 3), torch.randn(60, 5), torch.arange(60) % 4)
        >>> loader = torch.utils.data.DataLoader(clips, batch_size=16)
        >>> names = {"audio": "audio", "video": "video"}
        >>> result = amr.audit(Model(), loader, modalities=["audio", "video"], target=-1, encoders=names)
        >>> result.table.query("measure == 'use'")["modality"].tolist()
        ['audio', 'video']
    """
    settings = _settings(task, num_permutations, noise_draws, num_bootstrap, seed)
    _check_kinds(model, batches, train, encoders)
    progress = progress or Progress()
    batches = reread(batches, memory_bytes)
    first = next(read_batches(batches, target, task), None)
    if first is None:
        raise ValueError(
            "batches must hold clips, got none. Pass an iterable of (inputs, target), such as a DataLoader."
        )
    found = Modalities.of(first[0], modalities)
    function = AnyModel(model, first[0], logits, device, tasks[task])
    surveyed = survey(batches, target, found, task=task, most_bytes=memory_bytes, seed=seed)
    check_some_label(surveyed.target, task)
    if train is not None:
        of_train = survey(train, target, found, task=task, most_bytes=0, seed=seed)
        surveyed = replace(surveyed, statistics=of_train.statistics)
    partners = draw_partners(surveyed, num_permutations, seed, with_classes=task in Conflict.tasks)
    progress.start(len(surveyed.target))
    try:
        with ExitStack() as stack:
            stack.enter_context(evaluation_mode(model))
            tapped = None
            if encoders is not None:
                _check_encoders(encoders, found)
                ordered = {m: encoders[m] for m in found.names}
                tapped = stack.enter_context(tap(model, ordered, logits=logits))  # type: ignore[arg-type]
            per_clip, outputs = measure_batches(
                function, batches, target, found, surveyed, partners, settings, tapped, progress
            )
    finally:
        progress.stop()
    record = AuditRecord(
        model=_name(model) if name is None else name,
        classes=_classes(classes, outputs.shape[-1], task),
        modalities=found.names,
        encoders={} if tapped is None else tapped.names,
        notes=_notes(found, surveyed, per_clip, outputs),
        seed=seed,
        num_permutations=num_permutations,
        noise_draws=noise_draws,
        num_partners=len(surveyed.held),
        task=task,
    )
    result = Audit(record, per_clip, outputs, surveyed.target, num_bootstrap)
    if out is not None:
        result.save(out)
    return result


def _settings(task: str, num_permutations: int, noise_draws: int, num_bootstrap: int, seed: int) -> Settings:
    if task not in tasks:
        raise unknown("task", task, [*tasks])
    for name, value, least in (
        ("num_permutations", num_permutations, 1),
        ("noise_draws", noise_draws, 1),
        ("num_bootstrap", num_bootstrap, 0),
        ("seed", seed, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of {least} or more, got {value!r}. Leave it out.")
    return Settings(noise_draws, seed)


def _check_kinds(model: object, batches: object, train: object, encoders: object) -> None:
    """Raise ValueError for arguments of other kinds, such as a name in place of a model."""
    if not callable(model):
        raise ValueError(f"model must be a module or a function, got a {type(model).__name__}. Pass the model itself.")
    for name, value in (("batches", batches), ("train", train)):
        is_left_out = name == "train" and value is None
        if isinstance(value, str) or not (is_left_out or hasattr(value, "__iter__") or hasattr(value, "__getitem__")):
            raise ValueError(
                f"{name} must be an iterable of (inputs, target), got {type(value).__name__}. Pass for example a "
                "DataLoader."
            )
    if encoders is not None and not isinstance(encoders, Mapping):
        raise ValueError(
            f"encoders must map each modality to its module, got {type(encoders).__name__}. Pass for example "
            '{"audio": "audio_net", "video": "video_net"}.'
        )


def _check_encoders(encoders: Mapping[str, Any], modalities: Modalities) -> None:
    if set(encoders) != set(modalities.names):
        raise ValueError(
            f"encoders must name a module of each modality ({', '.join(modalities.names)}), got "
            f"{', '.join(map(str, encoders)) or 'none'}. Leave encoders out to measure no shares."
        )


def _name(model: Callable[..., Any]) -> str:
    model = getattr(model, "_orig_mod", model)
    return type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", type(model).__name__)


def _classes(names: Sequence[str] | None, number: int, task: str) -> tuple[str, ...]:
    if names is None:
        return (TARGET,) if task == "regression" else tuple(str(i) for i in range(number))
    if task == "regression":
        names = [names] if isinstance(names, str) else names
        if len(names) != 1:
            raise ValueError(f'classes must be the name of the number, got {len(names)}. Pass for example ["score"].')
    if len(names) != number or len({*map(str, names)}) != number:
        raise ValueError(
            f"classes must be {number} different names, one per logit, got {len(names)}. Leave it out for numbers."
        )
    return tuple(map(str, names))


def _notes(modalities: Modalities, surveyed: Survey, per_clip: PerClip, outputs: Tensor) -> tuple[str, ...]:
    notes = []
    if not surveyed.holds_all:
        notes.append(
            f"partners were drawn from {len(surveyed.held)} of {len(surveyed.target)} clips, chosen at random; "
            "memory_bytes sets how many"
        )
    discrete = [m for m in modalities.names if m not in surveyed.statistics]
    if discrete:
        notes.append(f"{', '.join(discrete)}: no noise, because the input is not one tensor of floating-point numbers")
    if ("nothing", "mean") not in per_clip.values:
        score = SCORES[per_clip.task].words
        notes.append(f"no {score} alone: it needs the mean of every modality, so tensors of one shape")
    if per_clip.task == "multilabel":
        without = int((surveyed.target.sum(0) == 0).sum())
        if without:
            notes.append(f"mAP leaves out {without} of {outputs.shape[-1]} labels, which no clip has")
        if bool(((outputs >= 0) & (outputs <= 1)).all()):
            notes.append(
                "all outputs are between 0 and 1: if they are probabilities, pass logits= with the output before the "
                "sigmoid"
            )
    return tuple(notes)
