"""Uni-modal ensemble (Du et al. 2023, On Uni-Modal Feature Learning in Supervised Multi-Modal Learning)."""

from __future__ import annotations

from amr.fusion.heads.ensemble import EnsembleOptions
from amr.fusion.methods.base import Method, methods


@methods.register("ume")
class UniModalEnsemble(Method):
    """No joint training: the mean softmax of models that were trained on one modality each (Du et al. 2023).

        p(y | x)     = 1/M sum_m softmax(W_m z^m + b_m)_y
        log p(y | x) = sum_m w_m log softmax(W_m z^m + b_m)_y - log Z        with weights, which sum to 1

    Weights move the use of the modalities without training, as a control for the regularizer.

    The adapter and classifier of each modality are those of `--method unimodal` with the same settings and seed, at the
    best epoch by val. Mean and sum are over the modalities that a clip has (`EnsembleHead`). UME is the control for all
    fusion: joint training must do better than this.

    On a cache, unlike in `amr train-encoders`, uni-modal features come from frozen encoders and their adapters. The
    history has one row, for the assembled ensemble; `--method unimodal` has the histories of its members.
    """

    summary = "no joint training: the mean of uni-modal softmaxes; weights=3:1 is their weighted log-opinion pool"
    citation = "Du et al. 2023, Uni-Modal Ensemble"
    Options = EnsembleOptions
    needs_classes = True
    head = "ume"
    fuses = False
    fits_unimodal = True

    def assemble(self) -> bool:
        """Copy the uni-modal runs' adapters and classifiers."""
        model = self.context.model
        for m in model.modalities:
            unimodal = self.context.fit_unimodal(m).model
            if m in model.adapters:
                model.adapters[m].load_state_dict(unimodal.adapters[m].state_dict())
            classifier = model.head.get_submodule(f"classifiers.{m}")
            classifier.load_state_dict(unimodal.head.get_submodule("classifier").state_dict())
        return True
