from itertools import permutations

import pytest
import torch
from torch import nn
from torch.nn import functional

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.heads import heads
from amr.fusion.heads.attention import AttentionOptions, sinusoids

from .conftest import DIMS, all_present, build, linear, make_z, with_steps


def layer_norm(layer, run):
    norm = nn.LayerNorm(layer.weight.shape[-1], dtype=torch.float64)
    norm.load_state_dict({name: value[run] for name, value in layer.state_dict().items()})
    return norm


def attention(layer, run):
    """torch's attention with the weights of one run."""
    state = {name: value[run] for name, value in layer.state_dict().items()}
    found = nn.MultiheadAttention(
        state["query.weight"].shape[0], layer.num_heads, batch_first=True, dtype=torch.float64
    )
    found.load_state_dict(
        {
            "in_proj_weight": torch.cat([state["query.weight"], state["key_value.weight"]]),
            "in_proj_bias": torch.cat([state["query.bias"], state["key_value.bias"]]),
            "out_proj.weight": state["out.weight"],
            "out_proj.bias": state["out.bias"],
        }
    )
    return found


def literal(head, z, present, num_steps, run, clip):
    """Logits of one clip by torch's attention, from valid steps only, without a mask."""
    steps = []
    for i, m in enumerate(z):
        x, projection = z[m][run, clip], linear(head.projections[i], run)
        if not present[run, clip, i]:
            steps.append(None)
        elif x.ndim == 1:
            steps.append(projection(x)[None])
        else:
            count = int(num_steps[m][clip])
            steps.append(projection(x[:count]) + sinusoids(count, head.shape.width, torch.device("cpu")))
    means = []
    pairs = list(permutations(range(len(z)), 2)) or [(0, 0)]
    for (target, source), layer in zip(pairs, head.layers, strict=True):
        y = steps[target]
        if y is None:
            means.append(torch.zeros(head.shape.width, dtype=torch.float64))
            continue
        norm = layer_norm(layer.attention_norm, run)
        if steps[source] is not None:
            keys = norm(steps[source])[None]
            y = y + attention(layer, run)(norm(y)[None], keys, keys)[0][0]
        mlp = nn.Sequential(linear(layer.mlp[0], run), nn.ReLU(), linear(layer.mlp[2], run))
        y = y + mlp(layer_norm(layer.mlp_norm, run)(y))
        means.append(layer_norm(layer.norm, run)(y).mean(0))
    return linear(head.classifier, run)(torch.cat(means))


@pytest.mark.parametrize("num_modalities", [1, 2, 3])
def test_each_modality_attends_to_the_valid_steps_of_each_other(num_modalities):
    head = build("cross-attention", num_modalities)
    z, num_steps = with_steps(num_modalities) if num_modalities > 1 else (make_z(1), {})
    present = all_present(z)
    present[:, 1] = False  # a clip without any modality
    present[:, 2:4, 0] = False
    present[:, 4, -1] = False
    logits = head(z, present)  # absent z are not zero here
    for run in range(2):
        for clip in range(7):
            expected = literal(head, z, present, num_steps, run, clip)
            torch.testing.assert_close(logits[run, clip], expected)


def test_more_padding_changes_nothing_and_gets_no_attribution():
    head, (z, num_steps) = build("cross-attention"), with_steps()
    present = all_present(z)
    longer = z | {"audio": functional.pad(z["audio"], (0, 0, 0, 3))}
    torch.testing.assert_close(head(longer, present), head(z, present))
    inputs = {m: v.clone().requires_grad_() for m, v in longer.items()}
    gradient = torch.autograd.grad(head(inputs, present).square().sum(), inputs["audio"])[0]  # (run, batch, 8, dim)
    padding = torch.arange(8) >= num_steps["audio"][:, None]
    assert (gradient[:, padding] == 0).all()
    assert (gradient[:, ~padding] != 0).any(-1).all()
    ours, expected = (Attributor().shares(head, each, present) for each in (longer, z))
    for left, right in zip(ours, expected, strict=True):
        torch.testing.assert_close(left, right)


def test_the_order_of_steps_matters():
    head, (z, _) = build("cross-attention"), with_steps()
    reversed_steps = z | {"audio": z["audio"].flip(2)}
    assert not torch.isclose(head(reversed_steps, all_present(z))[:, 0], head(z, all_present(z))[:, 0]).any()


@pytest.mark.parametrize("content", [0.0, 1e4, -7.0])
def test_values_of_an_absent_modality_change_nothing(content):
    head, (z, _) = build("cross-attention", 3), with_steps(3)
    present = all_present(z)
    present[:, :4, 0] = False
    present[:, 3:6, 2] = False
    changed = {m: v.clone() for m, v in z.items()}
    changed["audio"][:, :4] = content
    changed["video"][:, 3:6] = content
    torch.testing.assert_close(head(changed, present), head(z, present))


def test_a_loss_on_shares_has_finite_gradients_with_steps_and_absent_modalities():
    head, (z, _) = build("cross-attention", 3), with_steps(3)
    present = all_present(z)
    present[:, :2, 0] = False
    _, share, counted = Attributor().shares(head, z, present, create_graph=True)
    assert counted.all()
    gradients = torch.autograd.grad(share[..., 1].sum(), list(head.parameters()), materialize_grads=True)
    assert all(torch.isfinite(g).all() for g in gradients)
    assert (gradients[0] != 0).any()


def test_a_width_that_num_heads_does_not_divide_is_refused():
    with pytest.raises(
        ValueError, match=r"--hidden must be a multiple of 4 for --head cross-attention, got 30. Pass 32"
    ):
        heads["cross-attention"].check(30, list(DIMS[2]), AttentionOptions())
    with pytest.raises(ValueError, match=r"--head-option num_heads must be 1 or more, got 0. Pass num_heads=4."):
        AttentionOptions(0)
