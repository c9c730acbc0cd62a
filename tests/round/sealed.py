"""The tiny recipe with its answers sealed, and what opens them."""

import json

from swarm.recipe import catalogue
from swarm.recipe.load import load_recipe
from swarm.round.openings import Openings
from swarm.round.sealing import seal

WORDS = ["cat", "dog", "sun", "tree", "moon", "star", "fish", "bird", "rain", "snow", "wind", "leaf", "road", "hill"]


def sealed_recipe(folder, share=0.5, items=None):
    """A recipe with sealed words to spell backward, beside the openings."""
    tasks = items or [{"prompt": f"Spell this word backward: {word}", "answer": word[::-1]} for word in WORDS]
    shown, secret = seal(tasks)
    (folder / "sealed.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in shown))
    recipe = catalogue.find("tiny").model_dump(mode="json")
    recipe["tasks"] |= {"sources": [{"jsonl": "sealed.jsonl"}], "shared": 4, "own": 4}
    recipe["audits"] = {"share": share}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return load_recipe(folder / "recipe.yaml"), Openings(secret)
