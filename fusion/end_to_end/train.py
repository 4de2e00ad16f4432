"""Encoders trained on clips, with the trainer and the methods of heads: `amr train-encoders`.

encoders/<name>/
    config.json         what was asked for, classes, parts, versions
    metrics.json        val and test of the chosen epochs: the joint head's, or each modality's
    <modality>/         encoder.json and weights.safetensors, for `amr extract --encoder NAME=trained:...`
    history.csv         one row an epoch      } in each modality's folder
    head.safetensors    what stood behind z   } where encoders are trained alone
    tensorboard/        curves                }
    checkpoint.pt       until all is done     }
    teachers/           the encoders that --method umt learned from, likewise
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from amr.common.workspace import encoders_dir
from amr.console.progress import Progress
from amr.extract.cache.lock import lock
from amr.extract.encoders import build_encoder
from amr.extract.encoders.families.trained import ENCODER, save_trained
from amr.extract.encoders.model import ModelEncoder
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.data.clips import Clips
from amr.fusion.end_to_end.checkpoint import CHECKPOINT, SECONDS_BETWEEN, Checkpoint
from amr.fusion.end_to_end.config import TrainConfig
from amr.fusion.end_to_end.data import TrainSource, augmentation, open_source
from amr.fusion.end_to_end.media_clips import MediaClips
from amr.fusion.end_to_end.model import EncoderModel, OneRun
from amr.fusion.end_to_end.reporter import Reporter
from amr.fusion.heads import heads
from amr.fusion.methods import methods, parse_options
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.runs.measure import Measures, measure
from amr.fusion.runs.record import write_csv, write_json
from amr.fusion.runs.write import history_table
from amr.fusion.train.recipe import Fitted, Member, Recipe
from amr.fusion.train.trainer import DIVERGED, Ends, train_group

CONFIG, METRICS = "config.json", "metrics.json"
IRRELEVANT: dict[str, Any] = {"device": "auto", "workers": None, "store": None, "out": None, "overwrite": False}
REUSE = 16  # places of a small picture that a weight of a convolution acts at


@dataclass(frozen=True)
class TrainResult:
    """What a training of encoders comes to.

    Args:
        folder: of the training.
        encoders: embedding name to what `amr extract --encoder` takes.
        val, test: measures of the joint head, or modality to those of its classifier; None: no such clips.
        epochs: "joint", or modality, to the number of epochs and the one that was kept.
        notes: what was decided or left out, in words.
    """

    folder: Path
    encoders: dict[str, str]
    val: dict[str, Any] | None
    test: dict[str, Any] | None
    epochs: dict[str, dict[str, int]]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `amr train-encoders --json`."""
        return asdict(self) | {"folder": str(self.folder), "notes": list(self.notes)}


def train_encoders(
    config: TrainConfig, progress: Progress | None = None, *, seconds_between: float = SECONDS_BETWEEN
) -> TrainResult:
    """Train encoders on the train clips, choose the epoch by val, test once, and write a folder.

    A training that was killed goes on from its last checkpoint when the same is asked for again; one that is
    finished is read back.

    Args:
        config: what to do.
        progress: hears how far it is.
        seconds_between: at least, from one checkpoint to the next.

    Raises:
        ValueError: the request does not fit the clips, or the folder holds something else.
        FileNotFoundError: media or weights are not there.
        RuntimeError: training diverged.
    """
    progress = progress or Progress()
    folder = _folder(config)
    if (folder / METRICS).is_file() and not config.overwrite:
        progress.note(f"{folder} is finished; pass --overwrite to train anew")
        return _read(folder)
    _check(config)
    source = open_source(config, progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder, "--out", "training"):
        _begin(folder, config, source)
        training = _Training(config, source, progress, seconds_between)
        if config.objective == "joint":
            trained = {"joint": training.joint(folder)}
        else:
            trained = {m: training.alone(m, folder / m) for m in source.encoders}
        notes = (*source.parts.notes, *methods[config.method].notes(config.optimizer))
        _write(folder, config, source, trained, notes)
        for file in folder.rglob(CHECKPOINT):  # only now: a kill in the second training leaves the first one done
            file.unlink()
    return _read(folder)


@dataclass(frozen=True)
class _Trained:
    """One trained model and what its best epoch comes to."""

    fitted: Fitted
    val: Measures | None
    test: Measures | None


class _Training:
    """The trainings that one request takes, each in a folder of its own."""

    def __init__(self, config: TrainConfig, source: TrainSource, progress: Progress, seconds_between: float) -> None:
        self.config, self.source, self.progress = config, source, progress
        self.seconds_between = seconds_between

    def joint(self, folder: Path) -> _Trained:
        """All encoders with one head, end to end."""
        c, names = self.config, list(self.source.encoders)
        ratio = None if c.amr_ratio is None else parse_ratio(c.amr_ratio, names)
        method = methods[c.method]
        recipe = self._recipe(names, c.method, c.head, c.hidden, parse_options(method, c.method_option))
        trained = self._train(recipe, Member(c.seed, ratio, c.amr_weight), folder, c.method)
        for m, encoder in self.source.encoders.items():
            _keep(encoder, trained.fitted.model, m, folder / m)
        return trained

    def alone(self, modality: str, folder: Path) -> _Trained:
        """One encoder with a linear classifier."""
        recipe = self._recipe([modality], "unimodal", "concat", 0, None)
        trained = self._train(recipe, Member(self.config.seed), folder, modality)
        _keep(self.source.encoders[modality], trained.fitted.model, modality, folder)
        return trained

    def teacher(self, modality: str, folder: Path) -> Fitted:
        """The uni-modal encoder that a method learns from: the user's, or one trained first, here."""
        given = None if self.config.teachers is None else f"{self.config.teachers}/{modality}"
        if given is None and not (folder / ENCODER).is_file():
            return self.alone(modality, folder).fitted
        encoder = build_encoder(f"trained:{given or folder}", modality)
        pupil = self.source.encoders[modality]
        if (
            not isinstance(encoder, ModelEncoder)
            or encoder.preprocessing != pupil.preprocessing
            or encoder.embed_dim != pupil.embed_dim
        ):
            raise ValueError(
                f"--teachers must hold encoders that see clips as the trained ones do and give embeddings as long, "
                f"got another {modality} in {given!r}. Train them with the same --encoder, or leave --teachers out."
            )
        shape = self._shape([modality], "concat", 0)
        model = EncoderModel(shape, [self.config.seed], {modality: encoder.network()}).to(self.source.device)
        return Fitted(model.eval(), torch.ones(1, dtype=torch.long), {}, torch.zeros(1, dtype=torch.bool))

    def _train(self, recipe: Recipe, member: Member, folder: Path, what: str) -> _Trained:
        source, config = self.source, self.config
        folder.mkdir(parents=True, exist_ok=True)
        names = list(recipe.shape.embed_dims)
        augment = augmentation(config, source)
        reporter = Reporter(what, config.epochs, self.progress)
        watcher = Checkpoint(folder, config.seed, names, augment, reporter, self.seconds_between)
        networks = {m: source.encoders[m].network() for m in names}
        train, val, test = (
            self._clips(rows, names) for rows in (source.parts.train, source.parts.val, source.parts.test)
        )
        if len(train) == 0:
            raise RuntimeError(f"training of {what} must have a clip in train, got none. Look at its failures.")
        ends = Ends(
            build=lambda shape, seeds: EncoderModel(shape, seeds, networks),
            fit_alone=lambda m: self.teacher(m, folder / "teachers" / m),
            watcher=watcher,
            reuse=REUSE,
        )
        of_device = [source.device] if source.device.type == "cuda" else []
        with torch.random.fork_rng(of_device), closing(watcher):
            fitted = train_group(recipe, [member], replace(train, augment=augment), val, ends=ends)
        if fitted.diverged.any():
            raise RuntimeError(f"training of {what} must stay finite, got a loss or weights that did not. {DIVERGED}")
        fitted.model.eval()
        write_csv(folder / "history.csv", history_table(fitted, 0))
        save_file(_head_state(fitted.model), folder / "head.safetensors")
        return _Trained(fitted, *(_measured(fitted.model, clips, recipe.attributor) for clips in (val, test)))

    def _clips(self, rows: np.ndarray, names: Sequence[str]) -> MediaClips:
        """The clips of a part; where one modality is trained, those that have it."""
        clips = self.source.part(rows)
        return clips if len(names) > 1 else clips.alone(names[0])

    def _recipe(self, names: Sequence[str], method: str, head: str, hidden: int, options: Any) -> Recipe:
        c = self.config
        return Recipe(
            shape=self._shape(names, head, hidden),
            method=methods[method],
            options=options,
            attributor=Attributor(),
            epochs=c.epochs,
            batch_size=c.batch_size,
            optimizer=c.optimizer,
            lr=c.lr,
            weight_decay=c.weight_decay,
            amr_optimizer="separate",  # R trains the head by an optimizer of its own (paper, section 4)
            select=c.select,
            lr_step=(c.lr_step, c.lr_factor) if c.lr_step > 0 else None,
            patience=c.patience,
        )

    def _shape(self, names: Sequence[str], head: str, hidden: int) -> ModelShape:
        dims = {m: self.source.encoders[m].embed_dim for m in names}
        return ModelShape.of(dims, len(self.source.classes), head=head, hidden=hidden, adapter="none", adapter_dim=1)


@torch.no_grad()
def encoded(model: FusionModel, clips: Clips) -> Clips:
    """The clips with each modality's z in the place of its media."""
    steps = clips.chunks(1)
    parts = [model.encode(clips.slice(start, min(start + steps.step, len(clips)), 1)) for start in steps]
    z = {m: torch.cat([part[m][0] for part in parts]) for m in model.modalities}
    return Clips(z, clips.present, clips.target)


def _measured(model: FusionModel, clips: Clips, attributor: Attributor) -> Measures | None:
    """Measures of a part, each clip encoded once."""
    if len(clips) == 0:
        return None
    head = FusionModel(model.shape, [0]).to(clips.target.device)
    head.head.load_state_dict(model.head.state_dict())
    measured = measure(head, encoded(model, clips), attributor)
    return None if measured is None else measured[0]


def _keep(encoder: ModelEncoder, model: FusionModel, modality: str, folder: Path) -> None:
    """Write a trained encoder; `network()`s name the encoder's own weights `model.<name>`."""
    adapter = model.adapters[modality]
    assert isinstance(adapter, OneRun)
    weights = {name.removeprefix("model."): value for name, value in adapter.weights().items()}
    own = encoder.model.state_dict()
    # not strict: weights that are tied have one of their names here, and some buffers are in no state dict
    encoder.model.load_state_dict({name: value for name, value in weights.items() if name in own}, strict=False)
    save_trained(folder, encoder, encoder.spec)


def _head_state(model: FusionModel) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.run_state(0).items() if name.startswith("head.")}


def _check(config: TrainConfig) -> None:
    """Refuse what only the encoders' names can show to be wrong, before anything is decoded."""
    names = list(config.encoders)
    if config.objective == "unimodal":
        return
    if len(names) < 2:
        raise ValueError(
            f"--encoder must name two encoders or more with --objective joint, got {', '.join(names)}. "
            "Name another, or pass --objective unimodal."
        )
    heads[config.head].check(config.hidden, names)
    parse_options(methods[config.method], config.method_option)
    if config.amr_ratio is not None:
        parse_ratio(config.amr_ratio, names)


def _folder(config: TrainConfig) -> Path:
    """Where it goes; what is there already must be of the same training.

    Raises:
        ValueError: it holds another training, or something else.
    """
    if config.out is not None:
        folder = Path(config.out)
    else:
        dataset = config.dataset or Path(str(config.manifest)).parent.name or "clips"
        ratio = f"amr-{config.amr_ratio.replace(':', '-').replace('=', '')}" if config.amr_ratio else None
        objective = "unimodal" if config.objective == "unimodal" else f"joint-{config.method}"
        parts = [dataset, config.label, objective, ratio, f"seed{config.seed}"]
        folder = encoders_dir() / "_".join(part for part in parts if part is not None)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return folder
    told = _told(folder)
    if told is None:
        raise ValueError(f"--out must be new or a training of encoders, got {str(folder)!r}. Choose another name.")
    asked = _asked(config)
    if told["config"] != asked and not config.overwrite:
        changed = [k for k, v in asked.items() if told["config"].get(k) != v]
        raise ValueError(
            f"--out must be new or of the same training, got {str(folder)!r}, which has another "
            f"--{changed[0].replace('_', '-') if changed else 'set of options'}. Choose another name, or --overwrite."
        )
    return folder


def _begin(folder: Path, config: TrainConfig, source: TrainSource) -> None:
    """Say in the folder what is trained there; what was begun goes on with the same clips alone.

    Raises:
        ValueError: it began with others.
    """
    clips = source.clips_sha256()
    before = _told(folder)
    if config.overwrite and before is not None:
        shutil.rmtree(folder)
    elif before is not None and before.get("clips_sha256") != clips:
        raise ValueError(
            f"--out must be new or of the same clips, got {str(folder)!r}, begun with other clips, labels or splits. "
            "Choose another name, or --overwrite."
        )
    folder.mkdir(exist_ok=True)
    told = {"config": _asked(config), "classes": source.classes, "clips_sha256": clips, "versions": _versions()}
    write_json(folder / CONFIG, told)


def _told(folder: Path) -> dict[str, Any] | None:
    """What a training says of itself; None where there is none."""
    file = folder / CONFIG
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return told if isinstance(told, dict) and "objective" in told.get("config", {}) else None


def _asked(config: TrainConfig) -> dict[str, Any]:
    """What decides the numbers, as JSON has it."""
    asked: dict[str, Any] = json.loads(json.dumps(asdict(replace(config, **IRRELEVANT))))
    return asked


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("amr", "torch", "torchvision", "torchaudio", "timm")}


def _write(
    folder: Path, config: TrainConfig, source: TrainSource, trained: Mapping[str, _Trained], notes: Sequence[str]
) -> None:
    """metrics.json, the last file: with it the training is finished."""
    parts: dict[str, Any] = {
        part: {name: getattr(each, part) for name, each in trained.items()} for part in ("val", "test")
    }
    if config.objective == "joint":
        parts = {part: values["joint"] for part, values in parts.items()}
    epochs = {
        name: {"epochs": len(each.fitted.history["train_loss"]), "best": int(each.fitted.best_epoch[0])}
        for name, each in trained.items()
    }
    names = list(source.encoders)
    write_json(folder / METRICS, {**parts, "epochs": epochs, "encoders": names, "notes": list(notes)})


def _read(folder: Path) -> TrainResult:
    """A finished training."""
    told = json.loads((folder / METRICS).read_text())
    encoders = {name: f"trained:{folder / name}" for name in told["encoders"]}
    return TrainResult(folder, encoders, told["val"], told["test"], told["epochs"], tuple(told["notes"]))
