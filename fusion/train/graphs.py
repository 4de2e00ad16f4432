"""CUDA graphs: record a step once, then replay it. On a GPU, launching kernels costs more than running them.

A recording works on fixed tensors and repeats exactly what was recorded. So only methods whose step is always the same
(`Method.graph_safe`) are recorded. The indices of each batch are copied into the recording's own tensor, and a smaller
last batch takes the plain step. Before a recording is used, it must change the weights as the plain step does. If it
does not, or cannot be made, training continues with plain steps and a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from amr.fusion.data.clips import Clips
from amr.fusion.train.step import OptimizerStep
from amr.fusion.train.trainer import TrainOnBatch, plain_step

NUM_WARM_UPS = 3  # as PyTorch's notes on CUDA graphs do: libraries allocate and choose kernels in the first calls
TOLERANCE = 0.01  # of the length of the step: a recording may choose other kernels, which round otherwise


class Recorder(Protocol):
    """Records and replays work on a device."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Run the work until it is the same each time."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work and return a function that repeats it. Recording may also do it once."""


class CudaGraphs:
    """CUDA graphs (PyTorch, CUDA semantics, "CUDA Graphs")."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Run the work on a side stream, as capture requires."""
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(NUM_WARM_UPS):
                work()
        current.wait_stream(aside)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record a graph and return its replay."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay


def graphed_step(step: OptimizerStep, train: Clips) -> TrainOnBatch:
    """A recorded step on a GPU, if it is safe to record; else a plain step."""
    if can_graph(step, train) and train.target.device.type == "cuda":
        return GraphedStep(step, train, CudaGraphs())
    return plain_step(step, train)


def can_graph(step: OptimizerStep, train: Clips) -> bool:
    """Whether the step draws nothing, and each batch is made of rows of embeddings on the device."""
    on_device = all(e.device == train.target.device for e in train.embeddings.values())
    draws = step.partners is not None or step.noise is not None
    return type(train) is Clips and on_device and step.method is not None and step.method.graph_safe and not draws


class GraphedStep:
    """A step on clips, recorded at the first full batch, and again when a learning rate changes.

    Args:
        step: Step to record.
        train: Clips to train on.
        recorder: Recorder of the device.
    """

    def __init__(self, step: OptimizerStep, train: Clips, recorder: Recorder) -> None:
        self.step, self.train, self.recorder = step, train, recorder
        self._index = torch.empty(0, dtype=torch.long)
        self._losses = torch.zeros(2, len(step.weight), device=train.target.device)
        self._replay: Callable[[], None] | None = None
        self._made_for: tuple[object, ...] | None = None
        self._given_up = False

    def __call__(self, index: Tensor) -> Tensor:
        """Train on the clips of `index`, `(shared, batch)`; the loss and R of each run, valid until the next call."""
        if self._given_up or index.shape[1] != self.step.recipe.batch_size:
            return self._ordinary(index)
        made_for = (index.shape, *(group["lr"] for o in self.step.optimizers for group in o.param_groups))
        if made_for != self._made_for:
            self._record(index)
            self._made_for = made_for
        if self._replay is None:
            return self._ordinary(index)
        self._index.copy_(index)
        self._replay()
        return self._losses

    def _ordinary(self, index: Tensor) -> Tensor:
        return self.step(self.train.gather(index, len(self.step.weight)))

    def _record(self, index: Tensor) -> None:
        """Record the step, and check it. Weights and optimizers stay as they were."""
        self._replay, self._index = None, index.clone()
        # the check uses other clips: a recording must not depend on those it was made with
        other = (index + 1) % len(self.train)
        before = _Snapshot(self.step)
        try:
            wanted_losses = self._ordinary(other)
            wanted = _Snapshot(self.step)
            before.restore(self.step)
            self.recorder.warm_up(self._work)
            before.restore(self.step)
            replay = self.recorder.record(self._work)
            before.restore(self.step)
            self._index.copy_(other)
            replay()
            same = wanted.is_near(self.step, before) and _near(self._losses, wanted_losses, 0 * wanted_losses)
            why = "it did not do what the step does"
        except RuntimeError as error:
            same, why = False, str(error).splitlines()[0]
        before.restore(self.step)
        self._given_up = not same
        if same:
            self._replay = replay
        else:
            warnings.warn(f"a step could not be recorded ({why}): training goes on, slower", stacklevel=2)

    def _work(self) -> None:
        self._losses.copy_(self._ordinary(self._index))


class _Snapshot:
    """A copy of everything that a step changes: weights and optimizer states."""

    def __init__(self, step: OptimizerStep) -> None:
        self._values = {key: tensor.detach().clone() for key, tensor in _changed_by(step)}

    @torch.no_grad()
    def restore(self, step: OptimizerStep) -> None:
        """Restore in place. States that did not exist yet become 0, as optimizers initialize them."""
        for key, tensor in _changed_by(step):
            if key in self._values:
                tensor.copy_(self._values[key])
            else:
                tensor.zero_()

    def is_near(self, step: OptimizerStep, before: _Snapshot) -> bool:
        """Whether the step has this state now, within `TOLERANCE` of the change since `before`."""
        return all(
            _near(tensor.detach(), self._values[key], before._values.get(key, torch.zeros_like(tensor)))
            for key, tensor in _changed_by(step)
        )


def _changed_by(step: OptimizerStep) -> Iterator[tuple[tuple[object, ...], Tensor]]:
    for place, parameter in enumerate(step.parameters):
        yield ("parameter", place), parameter
    for number, optimizer in enumerate(step.optimizers):
        for place, parameter in enumerate(optimizer.param_groups[0]["params"]):
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    yield ("optimizer", number, place, name), value


def _near(ours: Tensor, theirs: Tensor, before: Tensor) -> bool:
    """Whether two tensors agree within `TOLERANCE` of the change since `before`, and where they are NaN."""
    ours, theirs, before = (value.double() for value in (ours, theirs, before))
    same_nan = bool((ours.isnan() == theirs.isnan()).all())
    apart, way, size = (torch.linalg.vector_norm(x.nan_to_num()) for x in (ours - theirs, theirs - before, theirs))
    return same_nan and bool(apart <= TOLERANCE * way + 1e-6 * size)
