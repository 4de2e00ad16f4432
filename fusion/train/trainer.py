"""The trainer: a group of runs of one shape, trained together along a leading run axis. A single fit is a group of one.

Random numbers depend on a run's seed, never on its place in the group: runs of one seed start from the same weights and
see the same batches, whether they train alone or together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from amr.common.devices import keep_freed_memory, threads_for
from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.regularizer import regularization
from amr.fusion.attribution.share import mean_share
from amr.fusion.data.clips import Clips
from amr.fusion.data.normalization import train_statistics
from amr.fusion.methods.base import LossFunction, Method, MethodContext, methods
from amr.fusion.model import Fitted, FusionModel, ModelShape, predict_logits, predict_shares, update_mean
from amr.fusion.run_axis.seeds import Noise
from amr.fusion.train.embedding_noise import EmbeddingNoise, EncodingNoise
from amr.fusion.train.hooks import EndToEndHooks, EpochCallback
from amr.fusion.train.recipe import Member, Recipe, ratios
from amr.fusion.train.state import TrainingState
from amr.fusion.train.step import OptimizerStep

DIVERGED = "Pass a smaller --lr."

TrainOnBatch = Callable[[Tensor], Tensor]  # indices of a batch to the loss and R of each run, `(2, run)`
MakeStep = Callable[[OptimizerStep, Clips], TrainOnBatch]


def plain_step(step: OptimizerStep, train: Clips) -> TrainOnBatch:
    """A step that gathers each batch and trains on it."""
    return lambda index: step(train.gather(index, len(step.weight)))


def train_group(
    recipe: Recipe,
    members: Sequence[Member],
    train: Clips,
    val: Clips,
    on_epoch: Callable[[], None] | None = None,
    hooks: EndToEndHooks | None = None,
    make_step: MakeStep = plain_step,
) -> Fitted:
    """Train a group of runs on `train`, and select each run's best epoch by `val`.

    Args:
        recipe: Settings common to all runs.
        members: Settings of each run.
        train: Clips to train on.
        val: Clips that choose the epoch; without any, the last epoch is selected.
        on_epoch: Function called after each epoch.
        hooks: Replacements for end-to-end training; None to train on embeddings.
        make_step: Factory of the training step; `amr.fusion.train.graphs` has a faster way on a GPU.
    """
    keep_freed_memory()
    hooks = hooks or EndToEndHooks()
    model = hooks.build(recipe.shape, [member.seed for member in members]).to(train.target.device)
    with threads_for(model.num_parameters() * len(members) * recipe.batch_size * hooks.reuse):
        context = _context(recipe, members, model, train, val, make_step)
        if hooks.fit_unimodal is not None:
            context = replace(context, fit_unimodal=hooks.fit_unimodal)
        method = recipe.method(recipe.options, context)
        if method.assemble():
            return _assembled(recipe, members, model, train, val)
        return _train(recipe, members, method, on_epoch, hooks.callback, make_step)


def _train(
    recipe: Recipe,
    members: Sequence[Member],
    method: Method,
    on_epoch: Callable[[], None] | None,
    callback: EpochCallback,
    make_step: MakeStep,
) -> Fitted:
    model, val = method.context.model, method.context.val
    train = method.train_clips()
    noise = _embedding_noise(recipe, members, model, method.context.train, "embedding noise")
    state = TrainingState(recipe, members, model, method, len(val) > 0, train.index_device, noise)
    state.load(callback.resume())
    update_mean(model, method.context.train, recipe.attributor)
    train_on_batch = make_step(state.step, train)
    while not state.over(recipe):
        epoch = state.epoch + 1
        method.begin_epoch(epoch)
        state.step.set_lr(epoch)
        model.train()
        epoch_values = _epoch(train_on_batch, state.step, train, state.order, recipe.batch_size)
        model.eval()
        update_mean(model, method.context.train, recipe.attributor)
        measured, val_logits = _validate(model, val, recipe, state.step.ratio)
        epoch_values |= measured | method.epoch_values()
        state.add(epoch_values, _finite(epoch_values, model, len(val) > 0))
        callback.epoch(epoch_values, state.dump, last=state.over(recipe), val_logits=val_logits)
        if on_epoch is not None:
            on_epoch()
    state.best.restore(model)
    update_mean(model, method.context.train, recipe.attributor)
    history = {name: torch.stack([h[name] for h in state.history]).cpu() for name in state.history[0]}
    return Fitted(model, state.best.epoch.cpu(), history, state.diverged.cpu())


def _finite(epoch_values: Mapping[str, Tensor], model: FusionModel, has_val: bool) -> Tensor:
    """Bool `(run,)`: the losses of the epoch and all weights after it are finite."""
    finite = torch.isfinite(epoch_values["train_loss"])
    if has_val:
        finite = finite & torch.isfinite(epoch_values["val_loss"])
    for parameter in model.parameters():
        finite = finite & torch.isfinite(parameter.detach()).flatten(1).all(1)
    return finite


def _assembled(
    recipe: Recipe,
    members: Sequence[Member],
    model: FusionModel,
    train: Clips,
    val: Clips,
) -> Fitted:
    """The result for a model that was assembled from trained ones: one epoch, in which it is measured."""
    ratio = ratios(members, model)
    model.eval()
    update_mean(model, train, recipe.attributor)
    losses = recipe.task.loss(predict_logits(model, train), train.target.expand(len(members), *train.target.shape))
    epoch_values = {"train_loss": losses, "regularization": torch.zeros_like(losses)}
    epoch_values |= _validate(model, val, recipe, ratio)[0]
    history = {name: value[None].cpu() for name, value in epoch_values.items()}
    return Fitted(
        model, torch.ones(len(members), dtype=torch.long), history, torch.zeros(len(members), dtype=torch.bool)
    )


def _epoch(
    train_on_batch: TrainOnBatch, step: OptimizerStep, train: Clips, order: Noise, batch_size: int
) -> dict[str, Tensor]:
    """Train on all clips once; returns the mean loss and R of each run."""
    index = order.shuffles(len(train), train.block)  # (run, clips), or (seed, clips) if runs of one seed share them
    index = index if step.method is None else step.method.arrange(index, batch_size)
    totals = torch.zeros(2, len(step.weight), device=step.weight.device)
    for start in range(0, len(train), batch_size):
        batch_index = index[:, start : start + batch_size]
        totals += train_on_batch(batch_index) * batch_index.shape[1]
    return dict(zip(("train_loss", "regularization"), totals / max(len(train), 1), strict=True))


def _context(
    recipe: Recipe, members: Sequence[Member], model: FusionModel, train: Clips, val: Clips, make_step: MakeStep
) -> MethodContext:
    """Everything that a method may use."""
    seeds = [member.seed for member in members]

    def fit_unimodal(modality: str) -> Fitted:
        """Uni-modal runs, one per member; members of one seed share one. A modality that no clip has is untrained."""
        distinct = sorted(set(seeds))
        train_only, val_only = (clips.only(modality).pool_steps() for clips in (train, val))
        fitted = train_group(
            _unimodal_recipe(recipe, modality),
            [Member(seed) for seed in distinct],
            train_only,
            val_only,
            make_step=make_step,
        )
        if fitted.diverged.any():
            raise RuntimeError(f"training on {modality} alone must stay finite, got a loss that did not. {DIVERGED}")
        return _select(fitted, [distinct.index(seed) for seed in seeds], seeds)

    def rehearse(loss: LossFunction, epochs: Sequence[int], clips: Clips, beside: Sequence[Tensor]) -> FusionModel:
        """A copy of the model, trained on one loss, with parameters beside it."""
        copy = deepcopy(model).train()
        members = [Member(seed) for seed in seeds]
        noise = _embedding_noise(recipe, members, model, clips, "rehearsal noise")
        step = OptimizerStep(replace(recipe, amr_optimizer="shared"), members, copy, loss, noise=noise, beside=beside)
        order = Noise(seeds, clips.index_device, "rehearsal")
        for epoch in epochs:
            step.set_lr(epoch)
            _epoch(make_step(step, clips), step, clips, order, recipe.batch_size)
        return copy.eval()

    noise = Noise(seeds, train.target.device, "noise")
    return MethodContext(model, train, val, recipe.epochs, noise, fit_unimodal, rehearse, recipe.task, seeds)


def _embedding_noise(
    recipe: Recipe, members: Sequence[Member], model: FusionModel, train: Clips, purpose: str
) -> EmbeddingNoise | EncodingNoise | None:
    if not any(recipe.embedding_noise):
        return None
    seeds = [member.seed for member in members]
    if model.trains_encoders:
        return EncodingNoise(recipe.embedding_noise, seeds, train.target.device, purpose)
    return EmbeddingNoise(recipe.embedding_noise, train_statistics(train)[1], seeds, purpose)


def _unimodal_recipe(recipe: Recipe, modality: str) -> Recipe:
    unimodal = methods["unimodal"]
    shape = ModelShape.of(
        {modality: recipe.shape.embed_dims[modality]},
        recipe.shape.head_shape.num_classes,
        head=str(unimodal.head),
        hidden=0,
        adapter=recipe.shape.adapter,
        adapter_dim=recipe.shape.head_shape.embed_dims[modality],
    )
    amounts = dict(zip(recipe.shape.embed_dims, recipe.embedding_noise, strict=False))
    noise = (amounts[modality],) if amounts else ()
    attributor = Attributor(task=recipe.attributor.task)
    return replace(recipe, shape=shape, method=unimodal, options=None, attributor=attributor, embedding_noise=noise)


def _select(fitted: Fitted, rows: Sequence[int], seeds: Sequence[int]) -> Fitted:
    """The runs of `rows`, which may repeat."""
    model = FusionModel(fitted.model.shape, seeds).to(next(fitted.model.parameters()).device)
    model.load_state_dict({name: value[list(rows)] for name, value in fitted.model.state_dict().items()})
    history = {name: values[:, list(rows)] for name, values in fitted.history.items()}
    return Fitted(model, fitted.best_epoch[list(rows)], history, fitted.diverged[list(rows)])


def _validate(model: FusionModel, val: Clips, recipe: Recipe, ratio: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
    """Loss, score of the task, R and mean shares of each run on val, and its logits; NaN and None without val clips."""
    num_runs, score = next(model.parameters()).shape[0], f"val_{recipe.task.score.name}"
    if len(val) == 0:
        none = torch.full((num_runs,), torch.nan, device=val.target.device)
        share = none[:, None].expand(-1, len(model.modalities))
        return {"val_loss": none, score: none, "val_regularization": none, "val_share": share}, None
    logits, share, counted = predict_shares(model, val, recipe.attributor)
    target, of_sums = val.target.expand(num_runs, *val.target.shape), recipe.attributor.uses_partners
    gain = recipe.task.gain(logits, val.target).to(logits.dtype)
    measured = {
        "val_loss": recipe.task.loss(logits, target),
        score: -gain if recipe.task.score.least_is_best else gain,
        "val_regularization": regularization(share, counted, ratio, level=recipe.amr_level, of_sums=of_sums),
        "val_share": mean_share(share, counted, of_sums=of_sums),
    }
    return measured, logits
