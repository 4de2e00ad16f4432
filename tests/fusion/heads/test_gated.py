import pytest
import torch

from .conftest import DIMS, all_present, build, linear, make_z


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
def test_it_is_the_unit_of_the_paper(num_modalities):
    head, z = build("gated", num_modalities, hidden=8), make_z(num_modalities)
    logits = head(z, all_present(z))
    for run in range(2):
        gates, classifier = linear(head.gates, run), linear(head.classifier, run)
        for clip in range(7):
            joined = torch.cat([z[m][run, clip] for m in DIMS[num_modalities]])
            h = torch.zeros(8, dtype=torch.float64)
            for i, m in enumerate(DIMS[num_modalities]):
                rows = slice(8 * i, 8 * i + 8)
                gate = torch.sigmoid(gates.weight[rows] @ joined + gates.bias[rows])
                h += gate * torch.tanh(linear(head.layers[i], run)(z[m][run, clip]))
            torch.testing.assert_close(logits[run, clip], classifier(h))
