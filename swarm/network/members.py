"""Who belongs to the swarm, asked of the caller and remembered.

Promise: the caller's `is_member` may block (it may ask a chain), so it never runs on the network's loop; its answers
are cached, a yes for minutes and a no for seconds, because a peer may register at any time. If it raises, nobody is
condemned: the answer is "not now" and it is asked again.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

_log = logging.getLogger(__name__)

YES_TTL_S = 300.0
NO_TTL_S = 3.0
_RETRY_S = 1.0
MAX_PENDING = 256
_MAX_CACHED = 20_000


class Members:
    """A cache around `is_member`, used from the network's loop only."""

    def __init__(self, is_member: Callable[[str], bool], own_peer_id: str) -> None:
        self._is_member = is_member
        self._own = own_peer_id
        self._verdicts: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._pending: dict[str, asyncio.Future[bool]] = {}
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="members")

    def known(self, peer_id: str) -> bool | None:
        """The remembered answer; None means that nobody has asked lately."""
        if peer_id == self._own:
            return True
        verdict = self._verdicts.get(peer_id)
        if verdict is None or verdict[1] < time.monotonic():
            return None
        return verdict[0]

    def ask(self, peer_id: str) -> "asyncio.Future[bool] | None":
        """Start to find out. None when too many questions are open already."""
        if peer_id in self._pending:
            return self._pending[peer_id]
        if len(self._pending) >= MAX_PENDING:
            return None
        future: asyncio.Future[bool] = asyncio.get_running_loop().run_in_executor(
            self._executor, self._is_member, peer_id
        )
        self._pending[peer_id] = future
        future.add_done_callback(lambda done: self._answered(peer_id, done))
        return future

    async def those_of(self, peer_ids: Iterable[str], timeout_s: float) -> set[str]:
        """The members among `peer_ids`; those about whom nothing is known within `timeout_s` seconds are left out."""
        wanted = set(peer_ids)
        deadline = time.monotonic() + timeout_s
        while open_ids := [peer_id for peer_id in wanted if self.known(peer_id) is None]:
            futures = [future for future in map(self.ask, open_ids[:MAX_PENDING]) if future is not None]
            left = deadline - time.monotonic()
            if left <= 0 or not futures:
                break
            await asyncio.wait(futures, timeout=left)
            await asyncio.sleep(0)  # lets the callbacks that store the verdicts run
        return {peer_id for peer_id in wanted if self.known(peer_id)}

    def questions(self) -> int:
        """How many are open."""
        return len(self._pending)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _answered(self, peer_id: str, done: "asyncio.Future[bool]") -> None:
        self._pending.pop(peer_id, None)
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            _log.warning("cannot tell whether %s is a member, asking again later: %r", peer_id, error)
            self._remember(peer_id, False, _RETRY_S)
            return
        yes = bool(done.result())
        self._remember(peer_id, yes, YES_TTL_S if yes else NO_TTL_S)

    def _remember(self, peer_id: str, verdict: bool, ttl_s: float) -> None:
        self._verdicts[peer_id] = (verdict, time.monotonic() + ttl_s)
        self._verdicts.move_to_end(peer_id)
        while len(self._verdicts) > _MAX_CACHED:
            self._verdicts.popitem(last=False)
