"""Virtual time: an event loop whose clock jumps to the next timer whenever nothing is ready to run.

Promise: within `virtual_time` a second of latency costs no second, and a slow machine causes no deadline to pass, so
that what a simulation measures is the simulated network and not the core that simulates it. `time.monotonic`,
`time.time` and the DHT's clock tell virtual time in the whole process; work handed to threads is done at once, in
the loop. Real input and output are not waited for.
"""

import asyncio
import selectors
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

from hivemind.utils import timed_storage

_Result = TypeVar("_Result")


class Stuck(RuntimeError):
    """Everything waits for something that nothing will bring about."""


class _Jump(selectors.DefaultSelector):
    """Passes the time that the loop would wait."""

    elapsed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Stuck("the simulation waits for something that no timer and no message brings about")
            self.elapsed_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which is that of `virtual_time`."""

    def __init__(self, selector: _Jump) -> None:
        super().__init__(selector)
        self._jump = selector

    def time(self) -> float:
        return self._jump.elapsed_s

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., _Result], *args: Any
    ) -> "asyncio.Future[_Result]":
        """Call `func` at once: threads know nothing of virtual time."""
        done: asyncio.Future[_Result] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the future carries it to whoever waits, as an executor's does
            done.set_exception(error)
        return done


@contextmanager
def virtual_time() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run coroutines in virtual time, with the function that this gives; one at a time, from this thread."""
    jump = _Jump()
    loop = VirtualLoop(jump)
    began = time.time()
    now: Callable[[], float] = lambda: began + jump.elapsed_s  # noqa: E731 - patched in as it is
    real = timed_storage.get_dht_time
    with ExitStack() as stack:
        stack.enter_context(patch.object(time, "monotonic", loop.time))
        stack.enter_context(patch.object(time, "time", now))
        for module in [module for module in sys.modules.values() if getattr(module, "get_dht_time", None) is real]:
            stack.enter_context(patch.object(module, "get_dht_time", now))
        stack.callback(loop.close)
        yield loop.run_until_complete
