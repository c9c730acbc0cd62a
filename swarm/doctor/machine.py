"""What the doctor sees of this machine alone: disk, memory, device, model and ports."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from swarm.doctor.findings import Finding
from swarm.errors import SwarmError
from swarm.network.daemon import check_port

_GIB = 2**30
MIN_DISK = 1 * _GIB
GOOD_DISK = 5 * _GIB
"""Blobs up to 2 GiB, two checkpoints, the model."""
MIN_MEMORY = 1 * _GIB
GOOD_MEMORY = 3 * _GIB
"""SmolLM2-135M trains within this; a peer that only judges needs less."""


def disk(home: Path) -> Finding:
    there = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    told = f"{free / _GIB:.1f} GiB are free at {there}"
    if free < MIN_DISK:
        return Finding("disk", "problem", f"only {told}; free 5 GiB there, or choose another folder with --home")
    if free < GOOD_DISK:
        return Finding("disk", "warning", f"{told}, blobs and checkpoints may take 5; free some, or use --home")
    return Finding("disk", "ok", told)


def memory() -> Finding:
    free = psutil.virtual_memory().available
    told = f"{free / _GIB:.1f} GiB of memory are free"
    if free < MIN_MEMORY:
        return Finding("memory", "problem", f"only {told}; end other programs, or take a smaller model with --model")
    if free < GOOD_MEMORY:
        return Finding("memory", "warning", f"{told}, which the tiny model fits; end other programs for a larger one")
    return Finding("memory", "ok", told)


def device(name: str | None) -> Finding:
    import torch

    from swarm.training.device import SMALL_MODEL, choose

    try:
        chosen = choose(SMALL_MODEL, device=name)
    except SwarmError as error:
        return Finding("device", "problem", str(error))
    if chosen.place.type == "cpu" and torch.version.cuda and Path("/proc/driver/nvidia").exists():
        return Finding(
            "device",
            "warning",
            "an NVIDIA driver is here but PyTorch does not see the GPU; check nvidia-smi and the driver's version",
        )
    slow = "; no GPU was found, so this peer takes fewer tasks per round" if chosen.place.type == "cpu" else ""
    return Finding("device", "ok", f"it computes on {chosen.name}{slow}")


def model(name: str) -> Finding:
    from swarm.training.obtain import held, hub_answers

    if name == "tiny":
        return Finding("model", "ok", "the tiny model is made on this machine")
    try:
        folder = held(name)
    except SwarmError as error:
        return Finding("model", "problem", str(error))
    if folder is not None:
        return Finding("model", "ok", f"{name} is here")
    if hub_answers():
        return Finding("model", "ok", f"{name} is not here yet; the first start downloads it: swarm model {name}")
    return Finding(
        "model",
        "warning",
        f"{name} is not here and the model hub does not answer; try swarm model {name}, or name a folder with --model",
    )


def ports(host: str, port: int) -> Iterator[Finding]:
    if not port:
        yield Finding("port", "ok", "any free port will do; behind a router, choose one with --port and forward it")
        return
    try:
        check_port(host, port)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, port))
    except SwarmError as error:
        yield Finding("port", "problem", str(error))
    except OSError as error:
        yield Finding(
            "port",
            "problem",
            f"UDP port {port} on {host} cannot be used ({error.strerror}); choose another with --port",
        )
    else:
        yield Finding("port", "ok", f"TCP and UDP port {port} are free")
