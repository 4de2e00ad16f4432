"""Encoders that were trained alone, on the same clips, which those of a joint training are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amr.common.files import read_json, whole_file
from amr.common.workspace import JOINT_RUN, TRAININGS, encoders_dir, find_folder
from amr.extract.cache.reader import Cache
from amr.fusion.data.clips import Clips
from amr.fusion.data.dataset import read_embedding, storage_type
from amr.fusion.data.folds import Fold, TrainingData
from amr.fusion.data.normalization import Normalization
from amr.fusion.evaluate.groups import RunGroup
from amr.fusion.evaluate.references.unimodal import Reference
from amr.fusion.methods import methods
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.runs.read import Run, read_run
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.weights import read_weights

SPLIT_SETTINGS = ("label", "split_policy", "split_seed", "keep_flagged")
HOW = "amr train-encoders --objective unimodal makes one, and --unimodal FOLDER names it"


def joint_training(run: Run) -> Path | None:
    """Folder of the joint training whose z a run takes as they are; None for all other runs."""
    takes_z = run.config.adapter == "none" and run.config.folds == 0
    return run.training if takes_z and len(run.modalities) > 1 else None


def _places(training: Path, teachers: str | None) -> list[Path]:
    """Folders that may have a training's encoders trained alone: its sweep, its teachers, and those it was given."""
    sweep = [training.parent.parent] if training.parent.name == TRAININGS else []
    return [*sweep, training / "teachers", *([] if teachers is None else [Path(teachers), encoders_dir() / teachers])]


class EncodersAlone:
    """Encoders and classifiers of each modality that were trained alone, for the runs of joint trainings.

    Args:
        named: Unimodal training, or sweep with some, by path or name; None for those of the training itself.
    """

    def __init__(self, named: str | None) -> None:
        self._named = named
        self._folder = None if named is None else find_folder(named, "--unimodal")
        self._swept: dict[Path, dict[tuple[str, int], Path]] = {}

    def runs(self, run: Run) -> dict[str, Run] | None:
        """Modality to the run of its encoder trained alone, empty if one is missing; None if no encoder was trained.

        Raises:
            ValueError: --unimodal names a training that lacks one.
        """
        training = joint_training(run)
        if training is None:
            return None
        with whole_file(training / "config.json", "RUN"):
            config = read_json(training / "config.json")["config"]
            seed, teachers = config["seed"], config.get("teachers")
        places = _places(training, teachers) if self._folder is None else [self._folder]
        found = {m: next((at for place in places if (at := self._find(place, m, seed))), None) for m in run.modalities}
        missing = [m for m, folder in found.items() if folder is None]
        if missing and self._named is not None:
            raise ValueError(
                f"--unimodal must be a unimodal training of {', '.join(run.modalities)}, or a sweep with one of seed "
                f"{seed}, got {self._named!r}, which has none of {', '.join(missing)}. {HOW}."
            )
        return {} if missing else {m: read_run(folder, "--unimodal") for m, folder in found.items() if folder}

    def of(self, group: RunGroup) -> Callable[[int], Reference] | None:
        """Function of a fold's number that returns its reference; None if no encoders trained alone are known."""
        runs = self.runs(group.runs[0])
        if not runs:
            return None
        read = {m: _read(run, m, group) for m, run in runs.items()}
        states = {m: each.classifier for m, each in read.items()}
        normalization = Normalization(
            *({m: getattr(each.normalization, name)[m] for m, each in read.items()} for name in ("mean", "std", "seen"))
        )
        embeddings, dtypes = {m: each.z for m, each in read.items()}, {m: each.dtype for m, each in read.items()}
        present = normalization.mask(torch.stack([each.present for each in read.values()], dim=-1))

        def of_fold(k: int) -> Reference:
            own = group.folds[k]
            device = own.test.target.device

            def clips(rows: np.ndarray) -> Clips:
                index = torch.from_numpy(rows)
                z = normalization.apply(embeddings, present, index, dtypes)
                return Clips({m: e.to(device) for m, e in z.items()}, present[index].to(device), target[index])

            target = group.data.dataset.target.to(device)
            train, val, test = (clips(rows) for rows in (own.rows.train, own.rows.val, own.rows.test))
            fold = Fold(own.rows, normalization, train, val, test)
            row = torch.zeros(len(group.runs), dtype=torch.long, device=device)
            return Reference(_ume(states).to(device).eval(), row, fold, own)

        return of_fold

    def _find(self, place: Path, modality: str, seed: int) -> Path | None:
        """Run of a modality's encoder in a sweep of trainings or in a unimodal training, whose cache still exists."""
        if (place / "sweep.json").is_file():
            if place not in self._swept:
                self._swept[place] = _in_sweep(place)
            folder = self._swept[place].get((modality, seed))
        else:
            folder = place / modality / JOINT_RUN
        if folder is None or not (folder / "metrics.json").is_file():
            return None
        return folder if Path(RunRecord.read(folder).cache).is_file() else None


@dataclass(frozen=True)
class _Read:
    """An encoder trained alone, as its z.

    Args:
        z: z of all clips, `(clips, dim)`, as cached.
        dtype: Type of z in the cache.
        present: Which clips have the modality, bool `(clips,)`.
        classifier: Weight and bias of its classifier.
        normalization: Normalization of z.
    """

    z: Tensor
    dtype: torch.dtype
    present: Tensor
    classifier: Mapping[str, Tensor]
    normalization: Normalization


def _read(alone: Run, modality: str, group: RunGroup) -> _Read:
    """Read z and the classifier of an encoder trained alone.

    Raises:
        ValueError: It is not the encoder of the group's training, or was trained on other clips, labels or splits.
    """
    run, data = group.runs[0], group.data
    ours, theirs = run.record.modalities[modality], alone.record.modalities[modality]
    what = f"--unimodal must have the {modality} encoder of {run.name}, trained on the same clips"
    advice = f"Train it with the options of {run.name}: --objective unimodal, and the same clips and --encoder."
    for name in ("embed_dim", "preprocessing"):
        if ours[name] != theirs[name]:
            raise ValueError(f"{what}, got {alone.name} with {name} {theirs[name]}, not {ours[name]}. {advice}")
    for name in SPLIT_SETTINGS:
        own, other = getattr(run.config, name), getattr(alone.config, name)
        if own != other:
            raise ValueError(f"{what}, got {alone.name} with {name} {other}, not {own}. {advice}")
    with Cache.open(Path(alone.record.cache)) as cache:
        if not _same_clips(cache, data, run.config.label):
            raise ValueError(f"{what}, got {alone.name} with other ids, labels or splits. {advice}")
        (z, present), dtype = read_embedding(cache, modality), storage_type(cache.info(modality))
    state, normalization = read_weights(alone.folder / "weights.safetensors", alone.record)
    return _Read(z, dtype, present, state, normalization)


def _same_clips(cache: Cache, data: TrainingData, label: str) -> bool:
    """Whether a cache has the ids, labels and splits of the clips, in their order."""
    clips, others = data.dataset.clips, cache.table()
    columns = ["id", label, *(name for name in map(str, clips) if name == "split" or name.startswith("split_"))]
    if any(name not in others for name in columns):
        return False
    return bool(np.array_equal(clips[columns].astype(str).to_numpy(), others[columns].astype(str).to_numpy()))


def _ume(classifiers: Mapping[str, Mapping[str, Tensor]]) -> FusionModel:
    """UME of linear classifiers that were trained alone, as a group of one run."""
    weights = {m: state["head.classifier.weight"] for m, state in classifiers.items()}
    dims = {m: weight.shape[-1] for m, weight in weights.items()}
    num_classes = len(next(iter(weights.values())))
    head = str(methods["ume"].head)
    model = FusionModel(ModelShape.of(dims, num_classes, head=head, hidden=0, adapter="none", adapter_dim=1), [0])
    names = ("weight", "bias")
    state = {
        f"head.classifiers.{m}.{name}": classifiers[m][f"head.classifier.{name}"][None] for m in dims for name in names
    }
    model.load_state_dict(state)
    return model


def _in_sweep(sweep: Path) -> dict[tuple[str, int], Path]:
    """Modality and seed to the folder of a finished unimodal run of a sweep."""
    found: dict[tuple[str, int], Path] = {}
    for folder in sorted(file.parent for file in sweep.glob("runs/*/metrics.json")):
        record = RunRecord.read(folder)
        if record.config.method == "unimodal":
            found.setdefault((next(iter(record.modalities)), record.config.seed), folder)
    return found
