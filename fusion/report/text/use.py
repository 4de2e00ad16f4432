"""Whether a setting uses any modality at all: else shares of its use, and their balance, mean nothing."""

from __future__ import annotations

from amr.fusion.report.settings import Setting

LITTLE = 0.01  # use that is called none, in fractions of 1, or of the error


def unit_of(setting: Setting) -> float:
    """What uses are compared with: 1 for fractions, and the error of the setting for errors."""
    error = setting.mean(setting.score.name) if setting.score.least_is_best else None
    return 1.0 if error is None else error


def uses_any(setting: Setting) -> bool:
    """Whether the largest use of a modality is more than `LITTLE`, and its interval above 0."""
    uses = {m: use for m, use in setting.by_modality("perceptual").items() if use is not None}
    if not uses or not setting.has("use_share"):
        return False
    most = max(uses, key=lambda m: uses[m])
    half = setting.half_width(f"perceptual.{most}")
    return uses[most] > LITTLE * unit_of(setting) and (half is None or uses[most] > half)
