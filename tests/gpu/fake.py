"""A GPU for machines without one: tensors that say they are on cuda:0, with their values in the CPU's memory.

Every operation runs on the CPU, so numbers, masks and sizes that depend on data are those of a CPU. What a GPU refuses
is refused: an operation on tensors of both devices, and an index on the GPU into a tensor of the CPU. What the host
waits for is noted: copies from and to memory that is not pinned, and sizes that depend on values.

Kernels, streams and graphs are not there.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
DEVICE = torch.device("cuda:0")
PLACE = torch.device("meta")  # what C++ sees in place of DEVICE: it needs no driver
FREE_BYTES = 2**33
aten = torch.ops.aten

COPIES = {aten._to_copy.default, aten.copy_.default, aten._copy_from.default}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
SIZED_BY_VALUES = {
    *(aten.nonzero.default, aten.masked_select.default, aten.bincount.default, aten.repeat_interleave.Tensor),
    *(aten._unique2.default, aten.unique_dim.default, aten.equal.default, aten._local_scalar_dense.default),
}
FROM_NUMBERS = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}
# operations whose 0-dimensional CPU operands are copied to the GPU; all others take them as a kernel's argument
COPIES_NUMBERS = {aten.where.self}


class FakeTensor(torch.Tensor):
    """A tensor that says it is on the GPU.

    Args:
        value: Its value, on the CPU.
    """

    value: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, value: Tensor) -> FakeTensor:
        like = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=PLACE)
        made = torch.Tensor._make_subclass(cls, like, False, device_for_backend_keys=DEVICE)
        made.value = value
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {}, None)

    @property
    def device(self) -> torch.device:
        """The GPU."""
        return DEVICE

    @property
    def is_cuda(self) -> bool:
        """True."""
        return True

    @property
    def is_meta(self) -> bool:
        """False."""
        return False

    def tolist(self) -> Any:
        """Values, copied to the host."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse."""
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any) -> Any:
        self.numpy()

    def __reduce_ex__(self, protocol: int) -> Any:
        """Pickle as the CPU's tensor."""
        return self.value.__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"FakeTensor({self.value!r})"


class Indexed(TorchFunctionMode):
    """Writes cuda:0 for cuda, and the place of C++ for both: C++ would ask the driver which GPU is meant."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args, kwargs = tuple(map(_indexed, args)), {name: _indexed(each) for name, each in (kwargs or {}).items()}
        if func in FROM_NUMBERS:  # C++ gives tensors no values where it sees PLACE
            device = kwargs.pop("device", None) or (PLACE if isinstance(args[0], FakeTensor) else None)
            if func is torch.Tensor.new_tensor:
                kwargs.setdefault("dtype", args[0].dtype)
            values = args[1:] if func is torch.Tensor.new_tensor else args
            made = values[0] if isinstance(values[0], Tensor) else torch.tensor(*values, **kwargs)
            return made if device is None else made.to(device)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):  # nor does it to lists that are indices
            args = (args[0], _listed(args[1]), *args[2:])
        return func(*args, **kwargs)


def _indexed(leaf: Any) -> Any:
    is_device = isinstance(leaf, str | torch.device) and str(leaf) in ("cuda", "cuda:0")
    return PLACE if is_device else leaf


def _listed(index: Any) -> Any:
    """An index with tensors in place of lists."""
    if isinstance(index, list):
        return torch.tensor(index, dtype=None if index else torch.long)
    return tuple(map(_listed, index)) if isinstance(index, tuple) else index


class FakeGPU(TorchDispatchMode):
    """While it is entered, tensors can be made on cuda:0.

    Attributes:
        waits: Operation and line of each time that the host waited for the GPU while `watching` was on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self._watches = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {}, self)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note waits."""
        before, self._watches = self._watches, True
        try:
            yield
        finally:
            self._watches = before

    def note(self, func: Any) -> None:
        """Note an operation that the host waits for, with the line of the package that calls it."""
        if self._watches:
            files = [(Path(frame.filename).resolve(), frame.line) for frame in traceback.extract_stack()]
            own = [(file, line) for file, line in files if file.is_relative_to(ROOT) and not file.is_relative_to(TESTS)]
            self.waits.append(f"{func} in {own[-1][0].relative_to(ROOT)}: {own[-1][1]}" if own else f"{func} in a test")


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any], gpu: FakeGPU | None) -> Any:
    """Run an operation on the values, and return its result on the device that a GPU would leave it on."""
    if torch.is_inference_mode_enabled():  # operations that are made of others come whole
        with gpu or nullcontext():
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    if func is aten.is_pinned.default:
        return getattr(args[0], "pinned", False)
    if func is aten._pin_memory.default:
        return _pinned(args[0])
    leaves = [*_tensors(args), *_tensors(kwargs.values())]
    any_fake = any(isinstance(leaf, FakeTensor) for leaf in leaves)
    device = kwargs.get("device")
    on_gpu = any_fake if device is None else torch.device(device).type in (DEVICE.type, PLACE.type)
    if not any_fake and not on_gpu:
        return func(*args, **kwargs)
    if func in COPIES:
        on_gpu = isinstance(args[0], FakeTensor) if device is None else on_gpu
        _note_copy(func, args, kwargs, on_gpu, gpu)
    elif device is None or func not in COPIES:
        _check(func, args, leaves, gpu)
    values = {id(leaf.value): leaf for leaf in leaves if isinstance(leaf, FakeTensor)}
    inner_args, inner_kwargs = _map(_value, args), _map(_value, kwargs)
    if device is not None:
        inner_kwargs["device"] = torch.device("cpu")
    result = func(*inner_args, **inner_kwargs)
    for value_id, outer in values.items():
        assert outer.shape == outer.value.shape, f"{func} changes the shape of a tensor in place, {value_id}"

    def outside(each: Any) -> Any:
        if not isinstance(each, Tensor) or isinstance(each, FakeTensor):
            return each
        if id(each) in values:
            return values[id(each)]
        return FakeTensor(each) if on_gpu else each

    return _map(outside, result)


def _tensors(arguments: Iterable[Any]) -> Iterator[Tensor]:
    """Tensors among arguments, and in lists of them."""
    for each in arguments:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)


def _map(function: Callable[[Any], Any], each: Any) -> Any:
    """Apply a function to all that is not a list, a tuple or a dictionary."""
    if isinstance(each, list | tuple):
        return type(each)([_map(function, item) for item in each])
    if isinstance(each, dict):
        return {name: _map(function, item) for name, item in each.items()}
    return function(each)


def _value(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, FakeTensor) else leaf


def _pinned(value: Tensor) -> Tensor:
    """A copy that says it is pinned; views of it do not."""
    copy = value.clone()
    copy.pinned = True  # type: ignore[attr-defined]
    return copy


def _note_copy(func: Any, args: Any, kwargs: dict[str, Any], to_gpu: bool, gpu: FakeGPU | None) -> None:
    """Note a copy between devices, except one to the GPU that the host does not wait for."""
    source = args[0] if func is aten._to_copy.default else args[1]
    non_blocking = kwargs.get("non_blocking") or (func is aten.copy_.default and len(args) > 2 and args[2])
    from_gpu = isinstance(source, FakeTensor)
    unnoticed = to_gpu and non_blocking and getattr(source, "pinned", False)
    if gpu is not None and from_gpu != to_gpu and not unnoticed:
        gpu.note(func)


def _check(func: Any, args: Any, leaves: list[Tensor], gpu: FakeGPU | None) -> None:
    """Refuse what a GPU refuses, and note what it waits for.

    Raises:
        RuntimeError: Tensors are on two devices.
    """
    here, indices = leaves, []
    if func in INDEXED:
        indices = [each for each in args[1] if each is not None]
        here = [each for each in leaves if not any(each is index for index in indices)]
    host = [each for each in here if not isinstance(each, FakeTensor)]
    mixed = len(host) < len(here)
    if mixed and any(each.ndim > 0 for each in host):
        shapes = ", ".join(f"{tuple(each.shape)} on {each.device}" for each in leaves)
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {shapes} in {func}")
    if indices and not mixed and host and any(isinstance(index, FakeTensor) for index in indices):
        raise RuntimeError(f"indices should be on the device of the indexed tensor, cpu, got cuda:0 in {func}")
    if gpu is None:
        return
    uploads = any(not isinstance(index, FakeTensor) for index in indices) or (host and mixed and func in COPIES_NUMBERS)
    if uploads or func in SIZED_BY_VALUES or any(index.dtype == torch.bool for index in indices):
        gpu.note(func)


@contextmanager
def fake_gpu(patch: Any) -> Iterator[FakeGPU]:
    """A GPU in every thread that starts meanwhile.

    Args:
        patch: pytest's `monkeypatch`.
    """
    gpu = FakeGPU()
    run = threading.Thread.run

    def run_with_gpu(thread: threading.Thread) -> None:
        with gpu, Indexed():
            run(thread)

    state = torch.zeros(16, dtype=torch.uint8)
    for name, value in {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_bf16_supported": lambda: True,
        "is_current_stream_capturing": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "mem_get_info": lambda device=None: (FREE_BYTES, FREE_BYTES),
        "get_rng_state": lambda device=None: state,
        "set_rng_state": lambda state, device=None: None,
        "synchronize": lambda device=None: None,
    }.items():
        patch.setattr(torch.cuda, name, value)
    patch.setattr(threading.Thread, "run", run_with_gpu)
    patch.setattr(torch.backends.cudnn, "enabled", False)
    patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    patch.setattr(optimizer, "_foreach_supported_types", [*optimizer._foreach_supported_types, FakeTensor])
    with gpu, Indexed():
        yield gpu
