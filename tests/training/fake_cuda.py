"""A CUDA device on a machine that has none: tensors have shapes, types and devices, and no contents.

PyTorch refuses to mix devices as on a real one. What is read out of a tensor (`item`, `tolist`, a mask that selects) is
made up, so only code that goes the same way whatever the numbers are can be run. There is no backward pass. Libraries
remember what device they saw: for a process of its own.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch._dynamo
import torch._inductor.utils  # looks at what PyTorch was built with: before it is told otherwise
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

from swarm.recipe.schema import Grpo, Model
from swarm.training.device import Device
from swarm.training.learner import Learner
from swarm.training.model import Loaded, load
from swarm.training.parts import Parts

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
CASTS: dict[str, Any] = {
    "cpu": "cpu",
    "float": torch.float32,
    "double": torch.float64,
    "long": torch.int64,
    "bool": torch.bool,
}
TYPES = {torch.float32: np.float32, torch.int64: np.int64, torch.bool: np.bool_, torch.uint8: np.uint8}


@dataclass
class MadeUp:
    whole: int = 0
    """What every whole number is that is read out of a tensor; every other number is 1, and no condition holds."""


class _Reading(TorchFunctionMode):
    """Answers where a fake tensor cannot, and moves between devices, for which PyTorch would need a real one."""

    def __init__(self, made_up: MadeUp) -> None:
        super().__init__()
        self._made_up = made_up

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == "cuda":
            like = torch.tensor(args[0], dtype=kwargs.get("dtype"))
            return torch.empty(like.shape, dtype=like.dtype, device=CUDA)
        if args and isinstance(args[0], torch.Tensor):
            if name in CASTS:
                name, args, kwargs = "to", (args[0], CASTS[name]), {}
            if name == "to":
                return self._moved(args[0], [*args[1:], *kwargs.values()])
            if isinstance(args[0], FakeTensor):
                answer = self._read(name, *args)
                if answer is not None:
                    return answer
        return func(*args, **kwargs)

    def _moved(self, tensor: torch.Tensor, words: list[Any]) -> torch.Tensor:
        others = [word for word in words if torch.is_tensor(word)]
        devices = [torch.device(word) for word in words if isinstance(word, (str, torch.device))]
        devices += [other.device for other in others]
        types = [word for word in words if isinstance(word, torch.dtype)] + [other.dtype for other in others]
        device, dtype = (devices or [tensor.device])[0], (types or [tensor.dtype])[0]
        copy = True in words
        if device.type == tensor.device.type:
            return tensor if dtype == tensor.dtype and not copy else aten._to_copy.default(tensor, dtype=dtype)
        return torch.empty(tensor.shape, dtype=dtype, device=device)

    def _read(self, name: str, tensor: FakeTensor, *more: Any) -> Any:
        match name:
            case "item" | "__float__" | "__int__" | "__index__":
                return 1.0 if tensor.dtype.is_floating_point else self._made_up.whole
            case "__bool__":
                return False
            case "copy_":
                assert torch.broadcast_shapes(more[0].shape, tensor.shape) == tensor.shape
                return tensor
            case "__invert__":
                return aten.bitwise_not.default(tensor)
            case "contiguous":
                return aten.clone.default(tensor)
            case "tolist":
                return np.ones(tuple(tensor.shape), dtype=TYPES[tensor.dtype]).tolist()
            case "numpy":
                assert tensor.device.type == "cpu", "a tensor of a GPU has no numpy()"
                return np.zeros(tuple(tensor.shape), dtype=TYPES[tensor.dtype])
            case "__getitem__":
                return self._part(tensor, more[0])
            case "__setitem__":
                mask, value = more
                assert not torch.is_tensor(value) or value.device == tensor.device or not value.dim()
                self._part(tensor, mask)
                return 0
        return None

    def _part(self, tensor: torch.Tensor, index: Any) -> torch.Tensor:
        """`tensor[index]`; a mask is taken to select everything."""
        places = [*index] if isinstance(index, tuple) else [index]
        if Ellipsis in [place for place in places if not torch.is_tensor(place)]:
            at = next(number for number, place in enumerate(places) if place is Ellipsis)
            used = sum(place is not None for place in places) - 1
            places[at : at + 1] = [slice(None)] * (tensor.dim() - used)
        chosen: list[torch.Tensor | None] = []
        for place in places:
            dimension = len(chosen)
            if torch.is_tensor(place):
                assert place.device.type in ("cpu", tensor.device.type), "an index of a GPU into a tensor of the CPU"
                if place.dtype == torch.bool:
                    assert tensor.shape[dimension : dimension + place.dim()] == place.shape
                    if place.dim() > 1:
                        tensor = aten.flatten.using_ints(tensor, dimension, dimension + place.dim() - 1)
                    place = None
                chosen.append(place)
            elif place is None:
                tensor = aten.unsqueeze(tensor, dimension)
                chosen.append(None)
            elif isinstance(place, slice):
                tensor = aten.slice.Tensor(tensor, dimension, place.start, place.stop, place.step or 1)
                chosen.append(None)
            else:
                tensor = aten.select.int(tensor, dimension, int(place))
        return aten.index.Tensor(tensor, chosen) if any(place is not None for place in chosen) else tensor


@contextlib.contextmanager
def fake_cuda() -> Iterator[MadeUp]:
    """While this lasts, new tensors are fake; from now on PyTorch says that it has one GPU of 8 GiB."""
    total = 8 * 2**30
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "is_bf16_supported": True,
        "mem_get_info": (total, total),
        "memory_allocated": 0,
        "memory_reserved": 0,
        "max_memory_allocated": 0,
        "get_device_properties": SimpleNamespace(total_memory=total, name="fake", uuid="none", major=9, minor=0),
        "get_device_name": "fake",
        "get_device_capability": (9, 0),
        "set_device": None,
        "empty_cache": None,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.random.fork_rng = lambda *_, **__: contextlib.nullcontext()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    made_up = MadeUp()
    with FakeTensorMode(allow_non_fake_inputs=True), _Reading(made_up), torch.no_grad():
        yield made_up


def learner_on(directory: Path, settings: Model, grpo: Grpo) -> Learner:
    """A learner whose model is on the fake device; within `fake_cuda`. Its updates end before the backward pass."""
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        real = load(directory, settings, seed=0, device="cpu")
    real.model.to(CUDA)
    loaded: Loaded = replace(real, device=Device(CUDA, None, "fake"), parts=Parts.of(real.model, None))
    learner = Learner(loaded, "fake", grpo, seed=0)

    def backward(loss: torch.Tensor, **_: Any) -> None:
        assert loss.device == CUDA
        for weight in loaded.trainable.values():
            weight.grad = torch.zeros_like(weight)

    learner._updater._trainer.accelerator.backward = backward
    learner._updater.optimizer.step = lambda: None
    return learner
