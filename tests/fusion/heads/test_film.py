import pytest
import torch

from amr.fusion.heads import heads
from amr.fusion.heads.film import FilmOptions

from .conftest import DIMS, all_present, build, linear, make_z


@pytest.mark.parametrize(("num_modalities", "condition"), [(2, None), (2, "video"), (3, "text"), (6, "f"), (6, None)])
def test_one_modality_scales_and_shifts_the_others(num_modalities, condition):
    head, z = build("film", num_modalities, options=FilmOptions(condition)), make_z(num_modalities)
    logits = head(z, all_present(z))
    conditioning = condition or next(iter(DIMS[num_modalities]))
    others = [m for m in DIMS[num_modalities] if m != conditioning]
    for run in range(2):
        for clip in range(7):
            factors = linear(head.film, run)(z[conditioning][run, clip])
            dgamma, beta = factors.reshape(2, len(others), 8)
            h = torch.zeros(8, dtype=torch.float64)
            for i, m in enumerate(others):
                h += (1 + dgamma[i]) * linear(head.projections[i], run)(z[m][run, clip]) + beta[i]
            torch.testing.assert_close(logits[run, clip], linear(head.classifier, run)(h.relu()))


def test_the_first_modality_conditions_by_default():
    assert build("film", 3).condition == "audio"
    z = make_z(3)
    torch.testing.assert_close(
        build("film", 3)(z, all_present(z)), build("film", 3, options=FilmOptions("audio"))(z, all_present(z))
    )


@pytest.mark.parametrize("condition", [None, "audio"])
def test_a_single_modality_is_projected_only(condition):
    head, z = build("film", 1, options=FilmOptions(condition)), make_z(1)
    logits = head(z, all_present(z))
    for run in range(2):
        expected = torch.nn.Sequential(linear(head.projections[0], run), torch.nn.ReLU(), linear(head.classifier, run))
        torch.testing.assert_close(logits[run], expected(z["audio"][run]))


def test_an_unknown_condition_is_refused():
    with pytest.raises(
        ValueError, match=r"--head-option condition must be one of audio, video, got 'vidoe'. Did you mean video?"
    ):
        heads["film"].check(8, ["audio", "video"], FilmOptions("vidoe"))
    with pytest.raises(ValueError, match="--head-option condition"):
        build("film", options=FilmOptions("text"))
