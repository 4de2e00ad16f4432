"""From the requested settings to those of the trainer: fill in defaults, check names against the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from amr.common.options import flag, parse_options
from amr.common.registry import unknown
from amr.fusion.attribution import attributions
from amr.fusion.attribution.ratio import parse_amounts, parse_ratio
from amr.fusion.attribution.regularizer import check_level
from amr.fusion.choices import MOMENTUM, check_momentum, own_weight
from amr.fusion.config import FitConfig, TrainingConfig
from amr.fusion.data.dataset import Dataset
from amr.fusion.data.folds import TrainingData
from amr.fusion.heads import head_options, heads
from amr.fusion.methods import methods
from amr.fusion.methods.base import Method
from amr.fusion.recipes.published import check_recipe
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.weights import attributor_of, model_shape
from amr.fusion.tasks import tasks
from amr.fusion.tasks.regression import REGRESSION_L1
from amr.fusion.train.recipe import Member, Recipe

C = TypeVar("C", bound=TrainingConfig)
LR_FACTOR = 0.1  # of a step of the learning rate, if neither the method nor the user has one
# Options that only some attributions use, and the trait of those that do.
ATTRIBUTION_TRAITS = {
    "attribution_output": "uses_output",
    "attribution_pooling": "uses_pooling",
    "attribution_baseline": "uses_baseline",
    "attribution_steps": "uses_points",
}
HEAD_SETTINGS = {name: getattr(FitConfig, name) for name in ("head", "hidden", "experts", "head_option", "condition")}


def takes_steps(config: FitConfig) -> bool:
    """Whether the config's head takes embeddings with steps.

    Raises:
        ValueError: There is no such attribution, method or head.
    """
    if config.attribution not in attributions:
        raise unknown("--attribution", config.attribution, attributions)
    return heads[methods[config.method].head or config.head].takes_steps


def record_of(config: FitConfig, data: TrainingData) -> RunRecord:
    """Record of a run of a resolved config."""
    notes = (*data.notes, *method_notes(config, data.dataset.modalities))
    return RunRecord(
        config,
        data.dataset.classes,
        data.describe(),
        str(data.cache.resolve()),
        notes,
        methods[config.method].fuses,
        warnings=data.warnings,
    )


def method_notes(config: TrainingConfig, modalities: Sequence[str]) -> list[str]:
    """Remarks of the method on a resolved config."""
    method = methods[config.method]
    options = parse_options(method.Options, config.method_option, "--method-option", config.method)
    return method.notes(options, str(config.optimizer), config.epochs, modalities)


def resolve(config: FitConfig, dataset: Dataset) -> FitConfig:
    """Fill in the method's defaults, and check the config against the cache.

    Raises:
        ValueError: A name is unknown, or settings cannot be combined.
    """
    config = with_head(config)
    check_cached(config)
    check_model(config, dataset.modalities)
    method = methods[config.method]
    options = parse_options(method.Options, config.method_option, "--method-option", config.method)
    if config.adapter == "none" and method.acts_on_adapters(options):
        raise ValueError(
            f"--adapter must be linear or mlp for --method {config.method}, which acts on adapters, got none. "
            "Pass --adapter linear."
        )
    optimizer = config.optimizer or method.optimizer
    check_momentum(config.momentum, optimizer)
    lr_step, lr_factor = schedule(config, method)
    return replace(
        config,
        modalities=",".join(dataset.modalities),
        optimizer=optimizer,
        momentum=MOMENTUM if optimizer == "sgd" and config.momentum is None else config.momentum,
        lr_step=lr_step,
        lr_factor=lr_factor,
        lr=method.lr if config.lr is None else config.lr,
        weight_decay=method.weight_decay if config.weight_decay is None else config.weight_decay,
        amr_weight=own_weight(config.attribution) if config.amr_weight is None else config.amr_weight,
    )


def default_settings(name: str) -> dict[str, Any]:
    """Option of `amr fit` to its default with a method, for the options that recipes have; None if it has none."""
    method, config = methods[name], FitConfig(method=name)
    step, factor = schedule(config, method)
    return {
        "optimizer": method.optimizer,
        "lr": method.lr,
        "momentum": MOMENTUM if method.optimizer == "sgd" else None,
        "weight_decay": method.weight_decay,
        "lr_step": step,
        "lr_factor": factor,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
    }


def schedule(config: FitConfig, method: type[Method]) -> tuple[int, float | None]:
    """Epochs after which the learning rate is multiplied, and the factor: the method's own if none is requested.

    The factor is None if the learning rate stays: after 0 epochs.

    Raises:
        ValueError: There is a factor and no step.
    """
    own_step, own_factor = method.lr_step or (0, LR_FACTOR)
    step = own_step if config.lr_step is None else config.lr_step
    if step > 0:
        return step, own_factor if config.lr_factor is None else config.lr_factor
    if config.lr_factor is not None:
        raise ValueError(
            f"--lr-factor must be used with --lr-step, got {config.lr_factor} without it. Add --lr-step 70, or leave "
            "it out."
        )
    return 0, None


def with_head(config: C) -> C:
    """The config with the head that its method requires, if it requires one.

    Raises:
        ValueError: The head is one that only a method may choose.
    """
    method = methods[config.method]
    if method.head is not None:
        options = config.method_option if heads[method.head].Options is method.Options else ()
        config = replace(config, head=method.head, hidden=0, experts=False, head_option=options)
        return replace(config, condition=None) if isinstance(config, FitConfig) else config
    if not heads[config.head].listed:
        listed = ", ".join(name for name, head in heads.items() if head.listed)
        raise ValueError(f"--head must be one of {listed}, got {config.head!r}. Pass --method {config.head} for it.")
    return config


def check_model(config: TrainingConfig, modalities: Sequence[str]) -> None:
    """Check head, method, attribution, ratio and noise against each other and the modalities.

    Raises:
        ValueError: A name is unknown, or settings cannot be combined.
    """
    method = methods[config.method]
    check_recipe(config.recipe, [config.method])
    condition = config.condition if isinstance(config, FitConfig) else None
    heads[config.head].check(config.hidden, modalities, head_options(config.head, config.head_option, condition))
    check_attribution(config)
    check_task(config)
    if config.embedding_noise is not None:
        parse_amounts(config.embedding_noise, modalities)
    method.check(modalities)
    if config.amr_ratio is not None:
        if not method.fuses:
            raise ValueError(
                f"--amr-ratio must be left out for --method {config.method}, which fuses nothing, "
                f"got {config.amr_ratio!r}. Leave it out, or choose another method."
            )
        parse_ratio(config.amr_ratio, modalities, name="--amr-ratio")


def check_cached(config: FitConfig) -> None:
    """Raise ValueError for a method that can only train encoders."""
    if methods[config.method].needs_encoders:
        chosen = f"--method {config.method}" if config.recipe is None else f"--recipe {config.recipe}"
        raise ValueError(
            f"--method must be one that works on cached embeddings, got {config.method}, which acts on encoders. "
            f"Train them with amr train-encoders --objective joint {chosen}, or choose another method."
        )


def without_effect(config: TrainingConfig) -> list[str]:
    """Notes on settings of a head that the method replaces by its own."""
    names = _of_another_head(config)
    return [f"{flag(name)} has no effect: --method {config.method} has a head of its own" for name in names]


def without_effect_on(configs: Sequence[TrainingConfig]) -> list[str]:
    """Notes on settings that the methods of some runs of a sweep ignore.

    Args:
        configs: Every run of the sweep. A ratio that its plain runs stand in for needs no note.
    """
    ignoring: dict[tuple[str, str, str], dict[str, None]] = {}  # setting and reason to the methods
    plain = {config.method for config in configs if config.amr_ratio is None}
    for config in configs:
        reasons = dict.fromkeys(_of_another_head(config), ("has a head of its own", "have heads of their own"))
        if config.amr_ratio is not None and not methods[config.method].fuses and config.method not in plain:
            reasons["amr_ratio"] = ("fuses nothing", "fuse nothing")
        for name, reason in reasons.items():
            ignoring.setdefault((name, *reason), {})[config.method] = None
    return [
        f"{flag(name)} has no effect on {', '.join(names)}, which {reason if len(names) == 1 else of_many}"
        for (name, reason, of_many), names in ignoring.items()
    ]


def _of_another_head(config: TrainingConfig) -> list[str]:
    """Names of the settings of a head that are requested, but not those of the method's own."""
    own = methods[config.method].head
    if own is None:
        return []
    of_method = ("head", own), ("head_option", config.method_option)  # as in the record of such a run
    values = {name: getattr(config, name, default) for name, default in HEAD_SETTINGS.items()}
    return [name for name, value in values.items() if value != HEAD_SETTINGS[name] and (name, value) not in of_method]


def check_task(config: TrainingConfig) -> None:
    """Raise ValueError for a method or an output that the task does not have."""
    task = config.task if isinstance(config, FitConfig) else "multiclass"
    method = methods[config.method]
    options = parse_options(method.Options, config.method_option, "--method-option", config.method)
    if reason := method.unfit(options, tasks[task]):
        others = ", ".join(name for name, other in methods.items() if not other.unfit(other.Options(), tasks[task]))
        advice = " ".join(f"--method-option {option}" for option in method.for_any_task)
        raise ValueError(
            f"--method must be one of {others} for --task {task}, got {config.method}: {reason}. "
            f"{f'Pass {advice}, or choose' if advice else 'Choose'} another method."
        )
    if config.attribution_output not in tasks[task].attributed:
        raise ValueError(
            f"--attribution-output must be {' or '.join(tasks[task].attributed)} for --task {task}, got "
            f"{config.attribution_output}. Leave it out."
        )


def check_attribution(config: TrainingConfig) -> None:
    """Raise ValueError for options that the attribution does not use."""
    for name, trait in ATTRIBUTION_TRAITS.items():
        default = getattr(FitConfig, name)
        value = getattr(config, name, default)
        users = [other for other, attribution in attributions.items() if getattr(attribution, trait)]
        if config.attribution not in users and value != default:
            raise ValueError(
                f"{flag(name)} must be used with --attribution {' or '.join(users)}, got {value} with "
                f"{config.attribution}. Change --attribution, or leave it out."
            )
    check_level("--amr-level", config.amr_level, config.attribution)


def recipe_of(record: RunRecord) -> Recipe:
    """Settings of a run that all runs of its group share."""
    config = record.config
    method = methods[config.method]
    lr_step, lr_factor = schedule(config, method)
    noise = () if config.embedding_noise is None else parse_amounts(config.embedding_noise, [*record.modalities])
    return Recipe(
        shape=model_shape(record),
        method=method,
        options=parse_options(method.Options, config.method_option, "--method-option", config.method),
        attributor=attributor_of(record),
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimizer=str(config.optimizer),
        lr=float(config.lr or 0),
        weight_decay=float(config.weight_decay or 0),
        amr_optimizer=config.amr_optimizer,
        select=config.select,
        lr_step=None if lr_factor is None else (lr_step, lr_factor),
        momentum=MOMENTUM if config.momentum is None else config.momentum,
        amr_level=config.amr_level,
        embedding_noise=noise if any(noise) else (),
        task=REGRESSION_L1 if config.regression_loss == "l1" else tasks[config.task],
    )


def member_of(record: RunRecord) -> Member:
    """Settings of a run that differ within its group."""
    config = record.config
    ratio = None if config.amr_ratio is None else parse_ratio(config.amr_ratio, list(record.modalities))
    return Member(config.seed, ratio, config.regularizer_weight)
