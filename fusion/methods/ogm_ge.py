"""On-the-fly gradient modulation, with and without generalization enhancement (Peng et al. 2022, OGM-GE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from amr.fusion.balance import mlb_coefficients, modality_losses, ogm_coefficients, unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import NEEDS_SOFTMAX, Method, MethodContext, epoch_means, methods
from amr.fusion.methods.dominance import dominance_ratios
from amr.fusion.methods.dropping import Dropping, OPMOptions
from amr.fusion.methods.ogm_options import OGMOptions
from amr.fusion.model import FusionModel
from amr.fusion.tasks import Task

NEVER_DROPS = OPMOptions(q_base=0.0)


@methods.register("ogm-ge")
class OGMGE(Method):
    """The leading modality learns more slowly, and noise helps generalization (Peng et al. 2022, sections 3.2, 3.3).

        s_m   = sum_i softmax(out_m,i)_{y_i}                                  over the batch
        rho_m = s_m / mean of the other modalities' s
        k_m   = 1 - tanh(alpha rho_m) if rho_m > 1, else 1
        g    <- k_m g + N(0, std(g)^2)                                        g: a parameter of adapter m

    std(g) is over the elements of the parameter's gradient before scaling; for a single element it is 0. Noise is added
    for every modality, as in the authors' code. out_m are the uni-modal logits (`unimodal_logits`), so any head works.
    No gradient flows through the coefficients. s_m is computed as the mean over the clips of the batch that have m, so
    that a rare modality does not look weak; if every clip has every modality, rho is the same. A modality that no clip
    of the batch has is not compared with others.

    On a cache, unlike in `amr train-encoders`, k_m and the noise act on the gradients of adapters, not of encoders. Of
    an encoder with convolutions they act only on parameters of three or more axes, which are the kernels, as in the
    authors' code: not on biases and normalization. Of other adapters they act on all parameters.

    At alpha 0, without the options below, this is naive training. The authors' code then still adds the noise.

    The default is SGD, because Adam cancels a constant scale of the gradient. The source's learning rate of 1e-3 is for
    encoders. On CREMA-D embeddings it is enough for linear adapters and head, but an mlp adapter and a hidden layer
    still learn after 60 epochs (val accuracy .58, against .61 at 1e-2; .1 diverges). So the default is 1e-2.

    The options combine, and are those of `ogm`, too: all that differs between the two methods is the noise.

    dominance=share: rho_m = share_m / mean of the other modalities' shares, by gradient x input on the batch, over the
    clips that have m. It needs no softmax, so that any task has it. The shares of a clip count in units of an even one
    (`share_ratios`). They say how much a decision rests on m, not how good m is.

    opm=true (Wei et al. 2024, BML): the leading modality is also dropped from clips, as in `opm`, at the same rho. Its
    warm-up is that of the dropping alone. It is for `ogm-ge`, too, because in the authors' code dropping, factors and
    noise are switches of their own, and the noise is on by default. There, dropping and factors both wait for 6 of 100
    epochs (start_epoch=7 warm_up=0.06).

    both_ways=true (Kontras et al. 2024, MLB): each modality has a loss, and those that are behind are sped up:

        loss = L + sum_m L_m
        k_m  = 1 + tanh(alpha (x - 1)) if x < 1, else 1 + (beta - 1) tanh(alpha (x - 1)),    x = 1 / rho_m

    L_m is that of out_m, as in `multi-loss`; so it is in the authors' code for linear heads, whose uni-modal logits are
    parts of the joint head. At alpha 0, and in the epochs without modulation, k is 1 and this is `multi-loss`. k_m acts
    on all parameters of an encoder, as in that code, which also scales W_m of a linear head; here no head is scaled.
    Its alpha is .8 (1 on UCF101), and it uses Adam, by which constant factors have no effect.
    """

    summary = "the leading modality's adapter gradient is scaled down, with noise on all"
    citation = "Peng et al. 2022, sections 3.2 and 3.3; opm of Wei et al. 2024, both_ways of Kontras et al. 2024"
    Options = OGMOptions
    for_any_task = ("dominance=share",)
    optimizer = "sgd"
    lr = 1e-2
    weight_decay = 1e-4
    lr_step = (70, 0.1)
    needs_adapter = True
    enhances = True

    def __init__(self, options: OGMOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.acts = False
        self.coefficients = torch.empty(0)  # (modalities, run), of the last batch
        self.seen: list[Tensor] = []  # the coefficients of each batch of the epoch
        self.dropping = Dropping(options if options.opm else NEVER_DROPS, context)

    @classmethod
    def notes(cls, options: OGMOptions, optimizer: str, epochs: int, modalities: Sequence[str]) -> list[str]:
        """Warn about Adam, which undoes the method, and about epochs in which nothing is modulated."""
        first, end, notes = options.start_epoch, options.end_epoch, []
        if optimizer != "sgd":
            cancels = f"{optimizer} cancels a constant scale of the gradient"
            notes.append(f"{cancels}, which is what this method sets; use sgd")
        if options.alpha > 0 and (first > epochs or first == end):
            why = f"is after the last epoch, {epochs}" if first > epochs else f"with end_epoch={end} leaves no epoch"
            notes.append(f"start_epoch={first} {why}: no gradient is modulated")
        return notes

    @classmethod
    def unfit(cls, options: OGMOptions, task: Task) -> str:
        """Probabilities of classes say which modality leads, unless shares do."""
        return NEEDS_SOFTMAX if options.dominance == "logits" and not task.one_class else super().unfit(options, task)

    @classmethod
    def trains_parts(cls, options: OGMOptions) -> bool:
        """Whether there are losses of the modalities."""
        return options.both_ways

    @classmethod
    def plans_ahead(cls, options: OGMOptions) -> bool:
        """Whether modalities are dropped after a warm-up, which is a share of the training."""
        return options.opm and options.warm_up > 0

    def begin_epoch(self, epoch: int) -> None:
        """Modulate gradients in epochs [start_epoch, end_epoch)."""
        o = self.options
        self.acts = o.alpha > 0 and o.start_epoch <= epoch < o.end_epoch
        self.seen = []
        self.dropping.begin_epoch(epoch)

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss, with both_ways also that of each modality, `(run,)`; computes the coefficients for `adjust`."""
        out = unimodal_logits(model.head, z, batch.present) if self.options.both_ways else None
        modulates = self.acts or self.dropping.acts
        joint = self._modulated(model, batch, z, out) if modulates else super().loss(model, batch, z)
        if out is None:
            return joint
        return joint + modality_losses(out, batch.target, batch.present, self.context.task).sum(0)

    def _modulated(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor], out: Tensor | None) -> Tensor:
        """Joint loss, `(run,)`, if it matters which modality leads."""
        o = self.options
        ratios = dominance_ratios(o.dominance, model, batch, z, out, self.context.task)
        if self.acts:
            both_ways = mlb_coefficients(ratios, o.alpha, o.beta)
            self.coefficients = both_ways if o.both_ways else ogm_coefficients(ratios, o.alpha)
            self.seen.append(self.coefficients)
        return self.dropping.loss(model, batch, z, ratios) if self.dropping.acts else super().loss(model, batch, z)

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Scale the gradients of adapters, and add noise."""
        if not self.acts:
            return gradients
        adjusted = dict(gradients)
        for m, k in zip(self.context.model.modalities, self.coefficients, strict=True):
            original = modulated(gradients, m)
            for name in of_adapter(gradients, m) if self.options.both_ways else original:
                g = gradients[name]
                adjusted[name] = g * k.view(-1, *[1] * (g.ndim - 1))
                if self.enhances and name in original:
                    adjusted[name] = adjusted[name] + self.context.noise.normal(*g.shape[1:]) * deviation(g)
        return adjusted

    def epoch_values(self) -> dict[str, Tensor]:
        """Mean coefficient of each modality over the epoch, 1 if gradients are not modulated; with opm, drop rates."""
        model = self.context.model
        means = epoch_means(model, self.seen, otherwise=1.0)
        values = {f"coefficient_{m}": mean for m, mean in zip(model.modalities, means, strict=True)}
        return values | self.dropping.epoch_values() if self.options.opm else values


@methods.register("ogm")
class OGM(OGMGE):
    """OGM-GE without the noise (Peng et al. 2022, section 3.2), with the same options.

    With opm=true it is BML (Wei et al. 2024), with both_ways=true MLB (Kontras et al. 2024).
    """

    summary = "the leading modality's adapter gradient is scaled down; opm=true is BML, both_ways=true MLB"
    citation = "Peng et al. 2022, section 3.2; opm of Wei et al. 2024, both_ways of Kontras et al. 2024"
    enhances = False


def of_adapter(gradients: Mapping[str, Tensor], modality: str) -> list[str]:
    """Names of the gradients of a modality's adapter or encoder."""
    return [name for name in gradients if name.startswith(f"adapters.{modality}.")]


def modulated(gradients: Mapping[str, Tensor], modality: str) -> list[str]:
    """Names of the gradients that the method changes: those of three or more axes if the adapter has any, else all.

    Args:
        gradients: Gradients by the names of the model's parameters, each with a leading run axis.
        modality: Name of the modality.

    >>> of_encoder = {"adapters.audio.conv": torch.zeros(1, 4, 3, 3, 3), "adapters.audio.norm": torch.zeros(1, 4)}
    >>> modulated(of_encoder, "audio")
    ['adapters.audio.conv']
    """
    names = of_adapter(gradients, modality)
    kernels = [name for name in names if gradients[name].ndim >= 4]  # the run axis and at least three of its own
    return kernels or names


def deviation(gradient: Tensor) -> Tensor:
    """Standard deviation over the elements of each run, `(run, 1, ...)`; 0 for a single element."""
    flat = gradient.flatten(1)
    std = flat.std(1) if flat.shape[1] > 1 else torch.zeros_like(flat[:, 0])
    return std.view(-1, *[1] * (gradient.ndim - 1))
