from itertools import combinations

import numpy as np
import pytest
import torch

from amr.fusion.heads.multiplicative import MultiplicativeOptions

from .conftest import DIMS, all_present, build, make_z


def weights(head, run):
    """V_m, W_mn and b of a run, as in the equation; the layer has them side by side."""
    layer = head.classifier if head.fusion is None else head.fusion
    size, dims = head.options.reduced_dim, list(head.shape.embed_dims.values())
    columns = layer.weight[run].detach().numpy()
    linear, products = columns[:, : sum(dims)], columns[:, sum(dims) :]
    pairs = combinations(range(len(dims)), 2)
    tensors = {pair: part.reshape(-1, size, size) for pair, part in zip(pairs, _parts(products, size**2), strict=True)}
    return np.split(linear, np.cumsum(dims)[:-1], axis=1), tensors, layer.bias[run].detach().numpy()


def _parts(columns, width):
    return [columns[:, i : i + width] for i in range(0, columns.shape[1], width)]


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
@pytest.mark.parametrize("hidden", [0, 8])
def test_it_is_the_layer_of_the_paper_for_every_two_modalities(num_modalities, hidden):
    head = build("multiplicative", num_modalities, hidden=hidden, options=MultiplicativeOptions(3))
    z = make_z(num_modalities)
    logits = head(z, all_present(z)).detach().numpy()
    for run in range(2):
        linear, tensors, bias = weights(head, run)
        projections = [layer.weight[run].detach().numpy() for layer in head.projections]
        for clip in range(7):
            x = [z[m][run, clip].numpy() for m in DIMS[num_modalities]]
            f = bias + sum(v @ each for v, each in zip(linear, x, strict=True))
            for (m, n), tensor in tensors.items():
                whole = np.einsum("ax,uab,by->uxy", projections[m], tensor, projections[n])  # the paper's W
                f = f + np.einsum("x,uxy,y->u", x[m], whole, x[n])
            if hidden:
                f = head.classifier.weight[run].detach().numpy() @ np.maximum(f, 0)
                f = f + head.classifier.bias[run].detach().numpy()
            np.testing.assert_allclose(logits[run, clip], f, rtol=1e-10, atol=1e-12)


def test_without_the_others_it_is_linear():
    head, z = build("multiplicative", 3, hidden=0), make_z(3)
    present = all_present(z)
    alone = {m: torch.zeros_like(x) for m, x in z.items()} | {"text": z["text"]}
    none = {m: torch.zeros_like(x) for m, x in z.items()}
    twice = alone | {"text": 2 * z["text"]}
    torch.testing.assert_close(
        head(twice, present) - head(none, present), 2 * (head(alone, present) - head(none, present))
    )


def test_a_size_below_1_is_refused():
    with pytest.raises(ValueError, match=r"--head-option reduced_dim must be 1 or more, got 0. Pass reduced_dim=16"):
        MultiplicativeOptions(0)
