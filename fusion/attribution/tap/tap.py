"""Tap of a model that is one `forward()`: what its encoders returned, and the rest of the model as a head.

    tap = amr.tap(model, audio="audio_net", video="visual_net")
    logits = model(batch)                                   # tap.z: what both modules returned
    loss = criterion(logits, target) + regularizer(tap.head, tap.z)

`tap.head(z)` runs the model again with the same inputs; the tapped modules do not run, but return z. So gradients of
the regularizer reach what comes after the encoders, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from amr.common.registry import unknown
from amr.fusion.attribution.tap.clips_first import IDENTITY
from amr.fusion.attribution.tap.logits import Which
from amr.fusion.attribution.tap.model import Tap


def tap(
    model: nn.Module, modules: Mapping[str, str | nn.Module] | None = None, /, *, logits: Which = None, **named: Any
) -> Tap:
    """Tap the encoders of a model that is one `forward()`.

    The encoding of a modality is the tensor that its module returns, with clips on the first axis: `(batch, ...)`;
    `(batch * frames, ...)` is given as `(batch, frames, ...)`, and `(steps, batch, ...)` as `(batch, steps, ...)`. Of
    an output with several tensors, name the one that goes on to the rest of the model: `"bert:pooler_output"`, or by
    position, `"lstm:1.0"` for the first of the second. The calls of a module that is called several times are stacked,
    `(batch, calls, ...)`. The first call of `head` checks that the rest of the model reads no other tensor of a tapped
    module, and that rows are ordered clip by clip.

    Args:
        model: Module that is called as a whole; compiled modules and `DistributedDataParallel`, too.
        modules: Modality to the name of its module in the model, or the module. Keywords do the same.
        logits: Which output holds the logits: a field, entry or position, or a function of the output. By default the
            output itself, its attribute `logits`, or its entry "logits".
        **named: Modality to its module, as in `audio="audio_net"`.

    Returns:
        A tap: `z` and `head` after each forward pass of the model; `remove()` ends it.

    Raises:
        ValueError: A module is unknown, named twice, or part of another.

    Example:
        >>> import torch
        >>> class Model(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.audio_net, self.visual_net, self.fusion = nn.Linear(4, 8), nn.Linear(6, 8), nn.Linear(16, 3)
        ...     def forward(self, audio, video):
        ...         return self.fusion(torch.cat([self.audio_net(audio), self.visual_net(video)], dim=-1))
        >>> import amr
        >>> model, regularizer = Model(), amr.AttributionRegularizer("1:1")
        >>> tap = amr.tap(model, audio="audio_net", video="visual_net")
        >>> logits = model(torch.randn(5, 4), torch.randn(5, 6))
        >>> loss = logits.logsumexp(-1).mean() + regularizer(tap.head, tap.z)
        >>> {m: tuple(z.shape) for m, z in tap.z.items()}, bool(torch.allclose(tap.head(tap.z), logits))
        ({'audio': (5, 8), 'video': (5, 8)}, True)
    """
    requested = {**(modules or {}), **named}
    if not requested:
        raise ValueError('tap must have at least one modality, got none. Pass for example audio="audio_net".')
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}. Pass the module that you call.")
    if isinstance(model, nn.DataParallel):
        raise ValueError(
            "model must run in one process per device, got DataParallel. Use DistributedDataParallel, or tap "
            "model.module."
        )
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    modules_of = dict(model.named_modules())
    names = {m: _name(value, modules_of) for m, value in requested.items()}
    _check_apart({m: name.partition(":")[0] for m, name in names.items()}, modules_of)
    return Tap(model, names, logits)


def _name(requested: str | nn.Module, modules: Mapping[str, nn.Module]) -> str:
    """Name of a module in the model, with the path of its tensor if one was given."""
    if isinstance(requested, nn.Module):
        found = next((name for name, module in modules.items() if module is requested), None)
        if found is None:
            raise ValueError("tap must be given modules of the model, got another one. Name it, such as audio_net.")
        return found
    if not isinstance(requested, str):
        raise ValueError(f"tap must be given names of modules, got {type(requested).__name__}. Pass such as audio_net.")
    name = requested.partition(":")[0]
    if name not in modules:
        error = unknown("module", name, [each for each in modules if each and each.count(".") <= name.count(".")])
        raise ValueError(str(error))
    return requested


def _check_apart(names: Mapping[str, str], modules: Mapping[str, nn.Module]) -> None:
    """Raise ValueError for the model itself, a module of two modalities, or a module in another."""
    for m, name in names.items():
        if not name:
            raise ValueError(f"{m} must name a part of the model, got the model itself. Name its encoder.")
        for other, its_name in names.items():
            if other == m:
                continue
            if modules[name] is modules[its_name]:
                raise ValueError(
                    f"each modality must have a module of its own, got {name} for {' and '.join(sorted((m, other)))}. "
                    f"{IDENTITY.format(module=name)} for each of them."
                )
            if name.startswith(f"{its_name}."):
                raise ValueError(f"modules must be apart, got {name} inside of {its_name}. Name one of them.")
