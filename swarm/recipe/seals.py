"""Sealed answers: the recipe shows the prompt and the seal of its answer, whoever holds the salt can open it later.

A seal binds (SHA-256) and, by a salt of 128 random bits, hides. The same salt decides in which rounds the item is an
audit: it was fixed when the recipe was published, before any round's seed, and nobody but the author knows it.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256

from swarm.recipe.schema import ItemSource, Recipe


def seal_of(prompt: str, answer: str, salt: str) -> str:
    """64 hexadecimal digits; `salt` is 32 of them."""
    return sha256(json.dumps(["swarm seal 1", prompt, answer, salt]).encode()).hexdigest()


def is_audit(salt: str, seed: bytes, share: float) -> bool:
    """Whether the item with this salt is an audit in the round with this seed; true for `share` of all rounds."""
    drawn = sha256(b"swarm audit 1" + bytes.fromhex(salt) + seed).digest()
    return int.from_bytes(drawn[:8], "big") < share * 2**64


def prompts_by_seal(recipe: Recipe) -> Mapping[str, str]:
    """The prompts of all sealed items of a recipe, by their seals."""
    return _prompts_by_seal(recipe)


@lru_cache(maxsize=4)
def _prompts_by_seal(recipe: Recipe) -> dict[str, str]:
    return {
        item.seal: item.prompt
        for source in recipe.tasks.sources
        if isinstance(source, ItemSource)
        for item in source.items
        if item.seal is not None
    }
