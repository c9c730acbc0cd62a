"""One tiny model for the whole folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.recipe.schema import Grpo, Lora, Model
from swarm.training import tiny
from swarm.training.learner import Learner


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    tiny.build(directory, lambda line: None)
    return directory


@pytest.fixture
def load(tiny_directory: Path) -> Callable[..., Learner]:
    """A learner on the tiny model, on the CPU in fp32; keywords are GRPO settings."""

    def load(*, lora: Lora | None = None, **grpo: object) -> Learner:
        settings = Grpo.model_validate({"learning_rate": 3e-4, **grpo})
        return Learner.load(tiny_directory, Model(id="tiny", lora=lora), settings, seed=0, device="cpu", threads=1)

    return load
