"""What every result says about where it was measured."""

import importlib.metadata
import os
import platform

PACKAGES = ("torch", "transformers", "trl", "peft", "hivemind", "reasoning_gym", "py-evm")


def describe() -> str:
    """Machine and versions as Markdown list items."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    return f"- machine: {machine}\n- versions: {versions}\n"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
