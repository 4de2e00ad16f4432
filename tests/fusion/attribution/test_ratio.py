import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.fusion.attribution.ratio import parse_ratio

PARTS = st.floats(min_value=0, max_value=1e300, allow_nan=False)


@given(st.lists(PARTS, min_size=2, max_size=6).filter(lambda parts: sum(parts) > 0))
def test_shares_sum_to_one_and_keep_the_order(parts):
    modalities = [f"m{i}" for i in range(len(parts))]
    shares = parse_ratio(":".join(map(repr, parts)), modalities)
    assert math.isclose(sum(shares), 1, rel_tol=1e-12)
    named = ":".join(f"{m}={part!r}" for m, part in reversed(list(zip(modalities, parts, strict=True))))
    assert parse_ratio(named, modalities) == shares


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "at least two parts"),
        ("1:a", "be numbers"),
        ("1:", "be numbers"),
        ("-1:1", "0 or more"),
        ("nan:1", "finite"),
        ("inf:1", "finite"),
        ("0:0", "a part above 0"),
        ("audio=1:1", "every modality or none"),
        ("audio=1:audio=2", "each modality once"),
        ("1:1:1", "one part for each of audio, video"),
        ("audio=1:vidoe=1", "Did you mean video"),
    ],
)
def test_wrong_ratios_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_ratio(text, ["audio", "video"])


def test_extreme_ratios_are_valid():
    assert parse_ratio("1:0", ["a", "b"]) == (1.0, 0.0)
    assert parse_ratio("1e-6:1", ["a", "b"])[0] == pytest.approx(1e-6)
    assert parse_ratio("1e308:1e308", ["a", "b"]) == (0.5, 0.5)
