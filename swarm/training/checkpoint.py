"""Trainable weights and optimiser state on disk: safetensors and JSON, nothing that is executed on reading.

A checkpoint directory holds numbered versions and a file `current` that names the complete one; it is replaced
atomically after a version is on the disk, so a reader finds the old state or the new one, whenever the writer dies.
"""

import json
import os
import shutil
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


def read_state(directory: Path) -> dict[str, Any]:
    """The JSON values of the current version.

    Raises:
        SwarmError: there is no checkpoint, or it is of another format or damaged.
    """
    version = _current(directory)
    if version is None:
        raise SwarmError(f"{directory} holds no checkpoint")
    try:
        state = json.loads((directory / version / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise SwarmError(f"the checkpoint in {directory} is damaged: {error}; remove it to start afresh") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise SwarmError(f"the checkpoint in {directory} has another format than {FORMAT}; remove it to start afresh")
    return state


def read_tensors(directory: Path, weights: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put the current version into the weights and the optimiser; they are untouched if anything is wrong.

    Raises:
        SwarmError: tensors are missing, damaged, or of other shapes than the model's.
    """
    state = read_state(directory)
    source = directory / str(_current(directory))
    try:
        saved = load_file(source / "weights.safetensors")
        moments = load_file(source / "optimizer.safetensors")
    except (OSError, SafetensorError) as error:
        raise SwarmError(f"the checkpoint in {directory} is damaged: {error}; remove it to start afresh") from error
    expected = {name: weight.shape for name, weight in weights.items()}
    places = _moments(weights, optimizer)
    steps = state.get("optimizer_steps", {})
    if (
        {name: tensor.shape for name, tensor in saved.items()} != expected
        or {name: tensor.shape for name, tensor in moments.items()}
        != {name: tensor.shape for name, tensor in places.items()}
        or set(steps) != set(expected)
    ):
        raise SwarmError(
            f"the checkpoint in {directory} is of another model, LoRA rank or optimiser; remove it to start afresh"
        )
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved[name])
            optimizer.state[weight]["step"] = torch.tensor(float(steps[name]))
        for name, place in places.items():
            place.copy_(moments[name])


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
