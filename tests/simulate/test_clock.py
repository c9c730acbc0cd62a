"""Virtual time passes for everybody alike, and only when all wait."""

import asyncio
import time

import pytest
from hivemind.utils import timed_storage

from swarm.simulate.clock import Stuck, virtual_time


def test_waiting_takes_no_time_and_all_clocks_agree():
    real, wall = time.perf_counter(), time.time()
    with virtual_time() as run:

        async def wait(seconds):
            before = time.monotonic(), time.time(), timed_storage.get_dht_time(), asyncio.get_running_loop().time()
            await asyncio.sleep(seconds)
            after = time.monotonic(), time.time(), timed_storage.get_dht_time(), asyncio.get_running_loop().time()
            return [late - early for early, late in zip(before, after, strict=True)]

        async def all_of_them():
            return await asyncio.gather(wait(3600), wait(60))

        hour, minute = run(all_of_them())
        assert hour == pytest.approx([3600] * 4, abs=1e-3) and minute == pytest.approx([60] * 4, abs=1e-3)
        assert time.time() == pytest.approx(wall + 3600, abs=60)
    assert time.perf_counter() - real < 60
    assert time.time() < wall + 600, "real time is back"


def test_work_takes_no_virtual_time_and_a_deadline_passes_only_in_it():
    with virtual_time() as run:

        async def busy():
            before = time.monotonic()
            assert await asyncio.to_thread(sum, range(100_000)) == 4_999_950_000
            assert time.monotonic() == before
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 30)
            return time.monotonic() - before

        assert run(busy()) == pytest.approx(30)


def test_an_error_in_a_thread_reaches_whoever_waits_for_it():
    with virtual_time() as run:

        async def fail():
            await asyncio.to_thread(int, "x")

        with pytest.raises(ValueError, match="invalid literal"):
            run(fail())


def test_a_simulation_that_waits_for_nothing_ends():
    with virtual_time() as run, pytest.raises(Stuck, match="waits for something"):
        run(asyncio.Event().wait())
