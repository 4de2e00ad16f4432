"""From embeddings to trained heads, in seconds.

The core reads like the paper, in about 20 minutes and in this order: `attribution/gradients.py`,
`attribution/share.py`, `attribution/regularizer.py`, `heads/concat.py`, `methods/naive.py`, `model.py`,
`train/step.py`, `train/best.py`, `train/trainer.py`.

Tensors have a leading run axis (`run_axis/`): read it as a batch of models.
"""

from amr.common.moved import moved_modules

moved_modules(
    {
        "amr.fusion.attributor": ("amr.fusion.attribution.attributor", "amr.fusion.attribution.regularizer"),
        "amr.fusion.regularizer": ("amr.fusion.attribution.regularizer",),
        "amr.fusion.stacked": ("amr.fusion.run_axis.layers", "amr.fusion.run_axis.axes", "amr.fusion.run_axis.seeds"),
    }
)
