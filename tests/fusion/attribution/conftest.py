import torch

from amr.fusion.attribution.gradients import output_value
from amr.fusion.heads import HeadShape, heads
from amr.fusion.run_axis.seeds import Draws

DIMS = {"audio": 5, "video": 3}


def make(name="concat", hidden=6, runs=1, dims=None):
    dims = dims or DIMS
    head = heads[name](HeadShape(dims, 4, hidden), Draws(range(runs))).double()
    z = {m: torch.randn(runs, 7, dim, dtype=torch.float64) for m, dim in dims.items()}
    return head, z, torch.ones(runs, 7, len(dims), dtype=torch.bool)


def scalar(head, present, predicted, output):
    def value(*inputs):
        rows = inputs[0].shape[0]
        logits = head(
            dict(zip(head.modalities, (x[None] for x in inputs), strict=True)), present[:, :1].expand(1, rows, -1)
        )[0]
        return output_value(
            logits,
            predicted[: len(logits)] if rows == len(predicted) else predicted.repeat(rows // len(predicted), 1),
            output,
        )

    return value
