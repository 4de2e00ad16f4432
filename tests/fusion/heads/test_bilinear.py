from string import ascii_lowercase

import pytest
import torch

from amr.fusion.heads import HeadShape, heads
from amr.fusion.heads.bilinear import BilinearOptions
from amr.fusion.run_axis.seeds import Draws

from .conftest import DIMS, all_present, build, linear, make_z


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
def test_it_is_a_linear_map_of_the_whole_outer_product(num_modalities):
    """The factors are multiplied out to the full weight, (width, d_1 + 1, ..., d_M + 1)."""
    head, z = build("bilinear", num_modalities), make_z(num_modalities)
    features = head.fuse(z, all_present(z))
    axes = ascii_lowercase[:num_modalities]
    for run in range(2):
        factors = []
        for layer in head.factors:
            affine = linear(layer, run)
            factors.append(
                torch.cat([affine.weight, affine.bias[:, None]], dim=-1).unflatten(0, (BilinearOptions.rank, 8))
            )
        weight = torch.einsum(",".join(f"yz{axis}" for axis in axes) + f"->z{axes}", *factors)
        for clip in range(2):
            ones = torch.ones(1, dtype=torch.float64)
            vectors = [torch.cat([z[m][run, clip], ones]) for m in DIMS[num_modalities]]
            expected = torch.einsum(f"z{axes}," + ",".join(axes) + "->z", weight, *vectors)
            torch.testing.assert_close(features[run, clip], expected)
            torch.testing.assert_close(
                head.classify(features)[run, clip], linear(head.classifier, run)(features[run, clip])
            )


def test_products_start_around_one():
    head = heads["bilinear"](HeadShape(DIMS[6], 4, 8), Draws([0]))
    z = {m: torch.zeros(1, 2, dim) for m, dim in DIMS[6].items()}
    torch.testing.assert_close(
        head.fuse(z, torch.ones(1, 2, 6, dtype=torch.bool)), torch.full((1, 2, 8), float(BilinearOptions.rank))
    )
