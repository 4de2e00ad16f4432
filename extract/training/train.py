"""Encoders trained on clips, with the trainer and the methods of heads: `amr train-encoders`.

encoders/<name>/
    config.json         what was asked for, classes, parts, versions
    metrics.json        val and test of the chosen epochs: the joint head's, or each modality's
    <modality>/         encoder.json and weights.safetensors, for `amr extract --encoder NAME=trained:...`
    history.csv         one row an epoch      } in each modality's folder
    head.safetensors    what stood behind z   } where encoders are trained alone
    tensorboard/        curves                }
    teachers/           the encoders that --method umt learned from, likewise
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from amr.data_manifests.workspace import encoders_dir
from amr.extract.encoders import build_encoder
from amr.extract.encoders.model import ModelEncoder
from amr.extract.encoders.trained import ENCODER, save_trained
from amr.extract.progress import Progress
from amr.extract.training.checkpoint import SECONDS_BETWEEN, Checkpoint
from amr.extract.training.config import TrainConfig
from amr.extract.training.media_clips import MediaClips
from amr.extract.training.model import EncoderModel
from amr.extract.training.source import TrainSource, augmentation, open_source
from amr.fusion.attributor import Attributor
from amr.fusion.clips import Clips
from amr.fusion.heads import heads
from amr.fusion.measure import Measures, measure
from amr.fusion.methods import methods, parse_options
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.ratio import parse_ratio
from amr.fusion.recipe import Fitted, Member, Recipe
from amr.fusion.results import history_table
from amr.fusion.run import write_csv, write_json
from amr.fusion.trainer import DIVERGED, Ends, train_group

IRRELEVANT = {"device": "auto", "workers": None, "store": None, "out": None, "overwrite": False}


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
    if (folder / "metrics.json").is_file():
        progress.note(f"{folder} is finished; pass --overwrite to train anew")
        return _read(folder)
    source = open_source(config, progress)
    _check(config, source)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", _asked(config) | {"classes": source.classes, "versions": _versions()})
    training = _Training(config, source, progress, seconds_between)
    if config.objective == "joint":
        trained = {"joint": training.joint(folder)}
    else:
        trained = {m: training.alone(m, folder / m) for m in source.encoders}
    notes = (*source.parts.notes, *methods[config.method].notes(config.optimizer))
    _write(folder, config, source, trained, notes)
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
        if (
            not isinstance(encoder, ModelEncoder)
            or encoder.preprocessing != self.source.encoders[modality].preprocessing
        ):
            raise ValueError(
                f"--teachers must hold encoders that see clips as the trained ones do, got another {modality} in "
                f"{given!r}. Train them with the same --encoder, or leave --teachers out."
            )
        shape = self._shape([modality], "concat", 0)
        model = EncoderModel(shape, [self.config.seed], {modality: encoder.network()}).to(self.source.device)
        return Fitted(model.eval(), torch.ones(1, dtype=torch.long), {}, torch.zeros(1, dtype=torch.bool))

    def _train(self, recipe: Recipe, member: Member, folder: Path, what: str) -> _Trained:
        source, config = self.source, self.config
        folder.mkdir(parents=True, exist_ok=True)
        augment = augmentation(config, source)
        watcher = Checkpoint(folder, augment, _Reporter(what, config.epochs, self.progress), self.seconds_between)
        networks = {m: source.encoders[m].network() for m in recipe.shape.embed_dims}
        train, val, test = (
            self._clips(rows, recipe) for rows in (source.parts.train, source.parts.val, source.parts.test)
        )
        ends = Ends(
            build=lambda shape, seeds: EncoderModel(shape, seeds, networks),
            fit_alone=lambda m: self.teacher(m, folder / "teachers" / m),
            watcher=watcher,
        )
        torch.manual_seed(config.seed)  # dropout inside encoders draws from it
        fitted = train_group(recipe, [member], replace(train, augment=augment), val, ends=ends)
        if fitted.diverged.any():
            raise RuntimeError(f"training of {what} must stay finite, got a loss or weights that did not. {DIVERGED}")
        fitted.model.eval()
        write_csv(folder / "history.csv", history_table(fitted, 0))
        save_file(_head_state(fitted.model), folder / "head.safetensors")
        measured = [_measured(fitted.model, clips, recipe.attributor) for clips in (val, test)]
        watcher.close()
        return _Trained(fitted, *measured)

    def _clips(self, rows: Any, recipe: Recipe) -> MediaClips:
        """The clips of a part, those of one modality where it is trained alone."""
        clips = self.source.part(rows)
        names = list(recipe.shape.embed_dims)
        return clips if len(names) > 1 or len(self.source.encoders) == 1 else clips.alone(names[0])

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


class _Reporter:
    """A line an epoch."""

    def __init__(self, what: str, epochs: int, progress: Progress) -> None:
        self._what, self._epochs, self._progress = what, epochs, progress
        self._began = time.monotonic()
        self._best = -1.0
        self._before: int | None = None

    def __call__(self, epoch: int, values: Mapping[str, float]) -> None:
        """Loss, val accuracy, and how long the rest will take."""
        if self._before is None:
            self._before = epoch - 1  # done before a kill
        accuracy = values["val_accuracy"]
        self._best = max(self._best, accuracy)
        each = (time.monotonic() - self._began) / (epoch - self._before)
        self._progress.note(
            f"{self._what}: epoch {epoch}/{self._epochs}, loss {values['train_loss']:.3f}, "
            f"val accuracy {accuracy:.3f} (best {self._best:.3f}), {each:.1f} s an epoch, "
            f"{each * (self._epochs - epoch) / 60:.0f} min left"
        )


@torch.no_grad()
def encoded(model: EncoderModel, clips: Clips) -> Clips:
    """The clips with each modality's z in the place of its media."""
    steps = clips.chunks(1)
    parts = [model.encode(clips.slice(start, min(start + steps.step, len(clips)), 1)) for start in steps]
    z = {m: torch.cat([part[m][0] for part in parts]) for m in model.modalities}
    return Clips(z, clips.present, clips.target)


def _measured(model: EncoderModel, clips: Clips, attributor: Attributor) -> Measures | None:
    """Measures of a part, each clip encoded once."""
    if len(clips) == 0:
        return None
    head = FusionModel(model.shape, [0]).to(clips.target.device)
    head.head.load_state_dict(model.head.state_dict())
    measured = measure(head, encoded(model, clips), attributor)
    return None if measured is None else measured[0]


def _keep(encoder: ModelEncoder, model: FusionModel, modality: str, folder: Path) -> None:
    """Write a trained encoder; `network()`s name the encoder's own weights `model.<name>`."""
    weights = model.adapters[modality].weights()
    encoder.model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    save_trained(folder, encoder, encoder.spec)


def _head_state(model: FusionModel) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.run_state(0).items() if name.startswith("head.")}


def _check(config: TrainConfig, source: TrainSource) -> None:
    """Refuse what only the encoders' names can show to be wrong, before anything is trained."""
    names = list(source.encoders)
    if config.objective == "unimodal":
        return
    if len(names) < 2:
        raise ValueError(f"--encoder must name two encoders or more with --objective joint, got {', '.join(names)}.")
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
    file = folder / "config.json"
    told = json.loads(file.read_text()) if file.is_file() else None
    if not isinstance(told, dict) or "objective" not in told.get("config", {}):
        raise ValueError(f"--out must be new or a training of encoders, got {str(folder)!r}. Choose another name.")
    if config.overwrite:
        shutil.rmtree(folder)
    elif told["config"] != _asked(config)["config"]:
        changed = [k for k, v in _asked(config)["config"].items() if told["config"].get(k) != v]
        raise ValueError(
            f"--out must be new or of the same training, got {str(folder)!r}, which has another "
            f"--{changed[0].replace('_', '-') if changed else 'set of options'}. Choose another name, or --overwrite."
        )
    return folder


def _asked(config: TrainConfig) -> dict[str, Any]:
    """What decides the numbers, as JSON has it."""
    return {"config": json.loads(json.dumps(asdict(replace(config, **IRRELEVANT))))}


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
    write_json(folder / "metrics.json", {**parts, "epochs": epochs, "encoders": names, "notes": list(notes)})


def _read(folder: Path) -> TrainResult:
    """A finished training."""
    told = json.loads((folder / "metrics.json").read_text())
    encoders = {name: f"trained:{folder / name}" for name in told["encoders"]}
    return TrainResult(folder, encoders, told["val"], told["test"], told["epochs"], tuple(told["notes"]))
