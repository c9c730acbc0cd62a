"""The machine of a measurement: what every result says about it, and processes that do not outlive theirs."""

import ctypes
import importlib.metadata
import os
import platform
import signal
import sys

PACKAGES = ("torch", "transformers", "trl", "peft", "hivemind", "reasoning_gym", "py-evm")


def describe() -> str:
    """Machine and versions as Markdown list items."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    return f"- machine: {machine}\n- versions: {versions}\n"


def end_with_parent() -> None:
    """Have this process killed when the thread that started it ends; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
