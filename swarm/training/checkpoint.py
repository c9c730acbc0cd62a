"""Trainable weights and optimiser state on disk: safetensors and JSON, nothing that is executed on reading.

A checkpoint directory holds numbered versions and a file `current` that names the complete one; it is replaced
atomically after a version is on the disk, so a reader finds the old state or the new one, whenever the writer dies.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from swarm.errors import SwarmError

FORMAT = 1


@dataclass(frozen=True)
class Snapshot:
    """A copy in the processor's memory; the model may go on changing while it is written."""

    weights: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    state: dict[str, Any]

    @classmethod
    def of(
        cls, weights: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> "Snapshot":
        """Of weights, their optimiser state and `state` (JSON values)."""
        steps = {name: float(optimizer.state[weight]["step"]) for name, weight in weights.items()}
        return cls(
            _copies(weights),
            _copies(_moments(weights, optimizer)),
            {"format": FORMAT, **state, "optimizer_steps": steps},
        )

    def write(self, directory: Path) -> None:
        """Make it the current version of `directory`.

        Raises:
            SwarmError: the disk is full or the directory cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            version = f"{_number(_current(directory)) + 1:08d}"
            target = directory / version
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            save_file(self.weights, target / "weights.safetensors")
            save_file(self.moments, target / "optimizer.safetensors")
            (target / "state.json").write_text(json.dumps(self.state, allow_nan=False))
            for path in (*target.iterdir(), target):
                _flush(path)
            (directory / "current.new").write_text(version)
            _flush(directory / "current.new")
            os.replace(directory / "current.new", directory / "current")
            _flush(directory)
        except (OSError, SafetensorError) as error:
            raise SwarmError(
                f"the checkpoint in {directory} could not be written: {error}; is the disk full?"
            ) from error
        for old in directory.iterdir():
            if old.is_dir() and old.name != version:
                shutil.rmtree(old, ignore_errors=True)

    @torch.no_grad()
    def put_back(self, weights: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Into the weights and the optimiser; they are untouched if anything does not fit.

        Raises:
            SwarmError: tensors are missing or of other shapes than the model's.
        """
        places = _moments(weights, optimizer)
        steps = self.state.get("optimizer_steps", {})
        if (
            _shapes(self.weights) != _shapes(weights)
            or _shapes(self.moments) != _shapes(places)
            or set(steps) != set(weights)
        ):
            raise SwarmError("it is of another model, LoRA rank or optimiser")
        for name, weight in weights.items():
            weight.copy_(self.weights[name])
            optimizer.state[weight]["step"] = torch.tensor(float(steps[name]))
        for name, place in places.items():
            place.copy_(self.moments[name])


def read(directory: Path) -> Snapshot:
    """The current version.

    Raises:
        SwarmError: there is no checkpoint, it is of another format, or damaged.
    """
    version = _current(directory)
    if version is None:
        raise SwarmError(f"{directory} holds no checkpoint")
    source = directory / version
    try:
        state = json.loads((source / "state.json").read_text())
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise SwarmError(
                f"the checkpoint in {directory} has another format than {FORMAT}; remove it to start afresh"
            )
        return Snapshot(load_file(source / "weights.safetensors"), load_file(source / "optimizer.safetensors"), state)
    except (OSError, ValueError, SafetensorError) as error:
        raise SwarmError(f"the checkpoint in {directory} is damaged: {error}; remove it to start afresh") from error


def _current(directory: Path) -> str | None:
    try:
        name = (directory / "current").read_text().strip()
    except FileNotFoundError:
        return None
    return name if name.isdecimal() else None


def _number(version: str | None) -> int:
    return int(version) if version is not None else 0


def _moments(weights: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's tensors by weight and kind; the number of steps is kept apart."""
    return {
        f"{name}/{kind}": tensor
        for name, weight in weights.items()
        for kind, tensor in optimizer.state[weight].items()
        if kind != "step"
    }


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _copies(tensors: Any) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
