"""When a modality mattered: the weights of the time steps of cached clips, and their times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amr.common.devices import choose_device
from amr.extract.named_clips import NamedClip
from amr.fusion.explain.explanation import Steps
from amr.fusion.explain.fold import step_weights
from amr.fusion.runs.new_clips import ReadClips, read_clips
from amr.fusion.runs.weights import read_fitted


def when_it_mattered(
    run: Path, folds: Mapping[str, int], durations: Mapping[str, Mapping[str, float]], device: str = "cpu"
) -> dict[str, dict[str, Steps]]:
    """Weights of the time steps of clips in a run's cache: id to modality to steps.

    Clips that cannot be read are left out, and so are embeddings without steps.

    Args:
        run: Folder of the run.
        folds: Id of each clip to the fold that it is tested in, whose model is asked; 0 without folds.
        durations: Id to kind of media (audio, video) to the duration in seconds, where it is known.
        device: Device: auto, cpu or cuda.
    """
    fitted = read_fitted(run, choose_device(device))
    infos = fitted.record.modalities
    clips = [NamedClip(id_, None) for id_ in folds]
    found: dict[str, dict[str, Steps]] = {}

    def handle(indices: Sequence[int], read: ReadClips) -> None:
        for row, i in enumerate(indices):
            one = ReadClips(
                {m: values[row : row + 1] for m, values in read.embeddings.items()},
                read.present[row : row + 1],
                read.failures[row : row + 1],
            )
            name = clips[i].name
            models = [*one.of_folds(fitted)]
            if folds[name] < len(models):
                weights = step_weights(*models[folds[name]], infos, fitted.task)
                found[name] = timed(infos, {m: w.tolist() for m, w in weights.items()}, durations.get(name, {}))

    read_clips(fitted, clips, device, handle, keep_steps=True)
    return found


def timed(
    infos: Mapping[str, Mapping[str, Any]], weights: Mapping[str, Sequence[float]], durations: Mapping[str, float]
) -> dict[str, Steps]:
    """Add times to the weights of steps: steps are equal parts of the clip, in temporal order.

    Args:
        infos: Modality to the cache's description of its embedding.
        weights: Modality to the weights of its steps.
        durations: Kind of media to the duration in seconds, where it is known.
    """
    steps = {}
    for m, weight in weights.items():
        duration = durations.get(infos[m]["modality"])
        edges = np.linspace(0, 1 if duration is None else duration, len(weight) + 1).tolist()
        steps[m] = Steps(edges[:-1], edges[1:], [*weight], duration is not None)
    return steps
