"""Trainable weights and optimiser state on disk: safetensors and JSON, nothing that is executed on reading.

A checkpoint directory holds numbered versions and a file `current` that names the complete one; it is replaced
atomically after a version is on the disk, so a reader finds the old state or the new one, whenever the writer dies.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from swarm.errors import SwarmError

FORMAT = 1


def write(
    directory: Path,
    weights: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> None:
    """Save weights, their optimiser moments and `state` (JSON values) as the current version of `directory`.

    Raises:
        SwarmError: the disk is full or the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        version = f"{_number(_current(directory)) + 1:08d}"
        target = directory / version
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        save_file(_on_cpu(weights), target / "weights.safetensors")
        moments = {
            f"{name}/{moment}": tensor
            for name, weight in weights.items()
            for moment, tensor in optimizer.state[weight].items()
            if moment != "step"
        }
        save_file(_on_cpu(moments), target / "optimizer.safetensors")
        steps = {name: float(optimizer.state[weight]["step"]) for name, weight in weights.items()}
        text = json.dumps({"format": FORMAT, **state, "optimizer_steps": steps}, allow_nan=False)
        (target / "state.json").write_text(text)
        for path in (*target.iterdir(), target):
            _flush(path)
        (directory / "current.new").write_text(version)
        _flush(directory / "current.new")
        os.replace(directory / "current.new", directory / "current")
        _flush(directory)
    except (OSError, SafetensorError) as error:
        raise SwarmError(f"the checkpoint in {directory} could not be written: {error}; is the disk full?") from error
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
    places = {
        f"{name}/{moment}": tensor
        for name, weight in weights.items()
        for moment, tensor in optimizer.state[weight].items()
        if moment != "step"
    }
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


def _on_cpu(tensors: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
