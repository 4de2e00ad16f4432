import pytest
import torch

from .conftest import DIMS, all_present, build, linear, make_z


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
@pytest.mark.parametrize("hidden", [0, 8])
def test_it_adds_the_logits_of_one_classifier_per_modality(num_modalities, hidden):
    head, z = build("sum", num_modalities, hidden=hidden), make_z(num_modalities)
    logits = head(z, all_present(z))
    for run in range(2):
        expected = torch.zeros(7, 4, dtype=torch.float64)
        for i, m in enumerate(DIMS[num_modalities]):
            layers = [linear(head.classifiers[i], run)]
            if hidden:
                layers = [linear(head.hidden_layers[i], run), torch.nn.ReLU(), *layers]
            expected += torch.nn.Sequential(*layers)(z[m][run])
        torch.testing.assert_close(logits[run], expected)


def test_without_a_hidden_layer_it_equals_concat_with_the_sum_of_the_biases():
    head, concat, z = build("sum", 3, hidden=0), build("concat", 3, hidden=0), make_z(3)
    with torch.no_grad():
        concat.classifier.weight.copy_(torch.cat([layer.weight for layer in head.classifiers], dim=-1))
        concat.classifier.bias.copy_(sum(layer.bias for layer in head.classifiers))
    torch.testing.assert_close(head(z, all_present(z)), concat(z, all_present(z)))
