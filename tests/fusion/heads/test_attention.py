import pytest
import torch
from torch import nn

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.heads import heads
from amr.fusion.heads.attention import AttentionOptions, sinusoids

from .conftest import DIMS, all_present, build, linear, make_z, with_steps


def reference(head, run):
    """torch's pre-norm layer over all tokens, with the weights of one run."""
    width = head.num_features
    layer = nn.TransformerEncoderLayer(
        width, 4, 4 * width, dropout=0.0, activation="gelu", norm_first=True, batch_first=True, dtype=torch.float64
    )
    state = {name: value[run] for name, value in head.state_dict().items()}
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([state["query.weight"], state["key_value.weight"]]),
            "self_attn.in_proj_bias": torch.cat([state["query.bias"], state["key_value.bias"]]),
            "self_attn.out_proj.weight": state["out.weight"],
            "self_attn.out_proj.bias": state["out.bias"],
            "linear1.weight": state["mlp.0.weight"],
            "linear1.bias": state["mlp.0.bias"],
            "linear2.weight": state["mlp.2.weight"],
            "linear2.bias": state["mlp.2.bias"],
            "norm1.weight": state["attention_norm.weight"],
            "norm1.bias": state["attention_norm.bias"],
            "norm2.weight": state["mlp_norm.weight"],
            "norm2.bias": state["mlp_norm.bias"],
        }
    )
    norm = nn.LayerNorm(width, dtype=torch.float64)
    norm.load_state_dict({"weight": state["norm.weight"], "bias": state["norm.bias"]})
    return nn.TransformerEncoder(layer, 1, norm, enable_nested_tensor=False)


def literal(head, z, present, num_steps, run, clip):
    """Logits of one clip by torch's layer, from valid tokens only, without a mask."""
    tokens = [head.class_token[run].detach()]
    for i, m in enumerate(z):
        if not present[run, clip, i]:
            continue
        projection, x = linear(head.projections[i], run), z[m][run, clip]
        if x.ndim == 1:
            tokens.append(projection(x))
        else:
            for step in range(num_steps[m][clip]):
                position = sinusoids(step + 1, head.num_features, torch.device("cpu"))[step].double()
                tokens.append(projection(x[step]) + position)
    sequence = reference(head, run)(torch.stack(tokens)[None])[0]
    return linear(head.classifier, run)(sequence[0])


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 6])
def test_it_is_a_transformer_layer_read_at_the_class_token(num_modalities):
    head, z = build("attention", num_modalities), make_z(num_modalities)
    present = all_present(z)
    present[:, 1] = False  # a clip without any modality
    present[:, 2:4, 0] = False
    logits = head(z, present)  # absent z are not zero here
    for run in range(2):
        for clip in range(7):
            expected = literal(head, z, present, {}, run, clip)
            torch.testing.assert_close(logits[run, clip], expected)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_each_step_is_a_token_with_its_position(num_modalities):
    head = build("attention", num_modalities)
    z, num_steps = with_steps(num_modalities)
    present = all_present(z)
    present[:, 4, 0] = False
    logits = head(z, present)
    for run in range(2):
        for clip in range(7):
            torch.testing.assert_close(logits[run, clip], literal(head, z, present, num_steps, run, clip))


def test_more_padding_changes_nothing_and_gets_no_attribution():
    head, (z, num_steps) = build("attention"), with_steps()
    present = all_present(z)
    longer = z | {"audio": torch.nn.functional.pad(z["audio"], (0, 0, 0, 3))}
    torch.testing.assert_close(head(longer, present), head(z, present))
    inputs = {m: v.clone().requires_grad_() for m, v in longer.items()}
    gradient = torch.autograd.grad(head(inputs, present).square().sum(), inputs["audio"])[0]  # (run, batch, 8, dim)
    padding = torch.arange(8) >= num_steps["audio"][:, None]
    assert (gradient[:, padding] == 0).all()
    assert (gradient[:, ~padding] != 0).any(-1).all()
    for left, right in zip(
        Attributor().shares(head, longer, present), Attributor().shares(head, z, present), strict=True
    ):
        torch.testing.assert_close(left, right)


def test_the_order_of_steps_matters():
    head, (z, _) = build("attention"), with_steps()
    present = all_present(z)
    reversed_steps = z | {"audio": z["audio"].flip(2)}
    assert not torch.isclose(head(reversed_steps, present)[:, 0], head(z, present)[:, 0]).any()


@pytest.mark.parametrize("content", [0.0, 1e4, -7.0])
def test_values_of_an_absent_modality_change_nothing(content):
    head, (z, _) = build("attention", 3), with_steps(3)
    present = all_present(z)
    present[:, :4, 0] = False
    present[:, 3:6, 2] = False
    changed = {m: v.clone() for m, v in z.items()}
    changed["audio"][:, :4] = content
    changed["video"][:, 3:6] = content
    assert torch.equal(head(changed, present), head(z, present))


@pytest.mark.parametrize("output", ["probability", "logit", "centered"])
def test_a_loss_on_shares_has_gradients_with_steps(output):
    head, (z, _) = build("attention"), with_steps()
    _, share, counted = Attributor(output).shares(head, z, all_present(z), create_graph=True)
    assert counted.all()
    assert share.shape == (2, 7, 2)
    gradients = torch.autograd.grad(share[..., 0].sum(), list(head.parameters()), materialize_grads=True)
    assert all(torch.isfinite(g).all() for g in gradients)
    assert (gradients[0] != 0).any()


@pytest.mark.parametrize("name", ["attention", "cross-attention"])
def test_a_width_may_be_odd(name):
    head, (z, _) = build(name, hidden=9, options=heads[name].Options(3)), with_steps()
    assert head(z, all_present(z)).isfinite().all()
    assert torch.equal(sinusoids(5, 9, torch.device("cpu")), sinusoids(5, 10, torch.device("cpu"))[:, :9])


def test_a_width_that_num_heads_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"--hidden must be a multiple of 4 .*, got 30. Pass 32."):
        heads["attention"].check(30, list(DIMS[2]), AttentionOptions())
    heads["attention"].check(0, list(DIMS[2]), AttentionOptions())
