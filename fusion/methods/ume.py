"""Uni-modal ensemble (Du et al. 2023, On Uni-Modal Feature Learning in Supervised Multi-Modal Learning)."""

from __future__ import annotations

from amr.fusion.heads import ensemble  # noqa: F401  (registers the head)
from amr.fusion.methods.base import Method, methods


@methods.register("ume")
class UniModalEnsemble(Method):
    """No joint training: the mean of the softmaxes of models that each learned from one modality (Du et al. 2023).

        p(y | x) = 1/M sum_m softmax(W_m z^m + b_m)_y

    Every modality's adapter and classifier are those of `--method unimodal` on it with the same settings and seed, at
    its best epoch by val. A clip is answered by the modalities that it has. It is the control for all fusion: what
    joint training gains, it must gain over this.

    Against end-to-end training, uni-modal features are the frozen encoders' (and their adapters'). The history has
    one row, the assembled ensemble's; `--method unimodal` has those of its parts.
    """

    summary = "no joint training: the mean of uni-modal softmaxes"
    citation = "Du et al. 2023, Uni-Modal Ensemble"
    head = "ume"
    fuses = False

    def assemble(self) -> bool:
        """Copy the uni-modal runs' adapters and classifiers."""
        model = self.setting.model
        for m in model.modalities:
            alone = self.setting.fit_unimodal(m).model
            if m in model.adapters:
                model.adapters[m].load_state_dict(alone.adapters[m].state_dict())
            classifier = model.head.get_submodule(f"classifiers.{m}")
            classifier.load_state_dict(alone.head.get_submodule("classifier").state_dict())
        return True
