"""The memory plan: what is chosen from how much there is, and that a snapshot stands still."""

from types import SimpleNamespace

import pynvml
import pytest
import torch

from swarm.training import loss, memory
from swarm.training.energy import Energy
from swarm.training.layout import sharing
from swarm.training.memory import Shape, training_rows
from swarm.training.sampler import noise
from tests.training.training_helpers import experience

QWEN = Shape(layers=24, hidden=896, cache=256, vocabulary=151_936)


@pytest.mark.parametrize(
    ("free", "rows", "checkpointing"),
    [(2**40, 32, False), (100 * 2**20, 32, False), (4 * 2**20, 6, True), (1, 1, True)],
)
def test_the_plan_follows_what_is_free(load, monkeypatch, free, rows, checkpointing):
    learner = load()
    monkeypatch.setattr(memory, "free_bytes", lambda _: free)
    plan = learner.plan(20, 12, 8)
    assert (plan.micro_batch, plan.checkpointing) == (rows, checkpointing)
    assert "rows of 32 tokens" in plan.why
    assert learner.update(experience(learner)).skipped is None


def test_checkpointing_makes_room_for_many_more_rows():
    plain = training_rows(QWEN, 612, 6 * 2**30, checkpointing=False)
    assert training_rows(QWEN, 612, 6 * 2**30, checkpointing=True) > 5 * plain > 5


def test_when_one_row_does_not_fit_it_is_tried_with_checkpointing(load, monkeypatch):
    learner = load()
    groups = experience(learner)
    real = loss.completion_logprobs

    def tight(*arguments):
        if not learner._updater.checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments)

    monkeypatch.setattr(loss, "completion_logprobs", tight)
    assert learner.update(groups).skipped is None
    assert learner._updater.checkpointing


def test_sharing_pays_for_short_answers_and_not_for_long_ones():
    assert sharing(45, 12, 576) >= 16
    assert sharing(100, 512, 896) <= 2
    assert sharing(1, 100, 64) == 1


def test_a_row_draws_the_same_whatever_else_is_asked():
    assert noise(7, 3, 5, 100)[:10].tolist() == noise(7, 3, 5, 10).tolist()
    many = [tuple(noise(7, prompt, sample, 4)) for prompt in range(20) for sample in range(20)]
    assert len(set(many)) == 400
    numbers = noise(0, 0, 0, 20_000)
    assert numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01 and abs(numbers.var() - 1 / 12) < 0.005


def test_energy_adds_up_what_the_processor_counts(tmp_path):
    for name, used in (("intel-rapl:0", 1_000_000), ("intel-rapl:1", 9_000_000), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{used}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("10000000\n")
    energy = Energy(torch.device("cpu"), tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("3000000")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("500000")  # the counter began anew
    assert energy.joules() == pytest.approx(2 + 1.5)
    assert energy.joules() == pytest.approx(3.5)
    assert Energy(torch.device("cpu"), tmp_path / "none").joules() is None


def test_energy_of_a_gpu_is_what_its_driver_counts(monkeypatch):
    millijoules = iter([5_000, 7_500, 8_000])

    def counted(handle):
        assert handle == "GPU-1234"
        if (now := next(millijoules, None)) is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return now

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", counted)
    energy = Energy(torch.device("cuda"))
    assert energy.joules() == pytest.approx(2.5)
    assert energy.joules() == pytest.approx(3.0)
    assert energy.joules() is None


def test_without_a_driver_no_energy_is_told(monkeypatch):
    def missing():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert Energy(torch.device("cuda")).joules() is None


def test_a_snapshot_does_not_follow_the_weights(load, tmp_path):
    learner = load()
    snapshot, fingerprint = learner.snapshot(), learner.fingerprint
    learner.update(experience(learner))
    snapshot.write(tmp_path)
    fresh = load()
    fresh.restore(tmp_path)
    assert fresh.fingerprint == fingerprint != learner.fingerprint
