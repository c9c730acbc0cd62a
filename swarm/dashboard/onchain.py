"""What the chain says about the swarm, asked by a thread of its own: a page never waits for a node."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from eth_utils.crypto import keccak

from swarm.chain.client import Chain
from swarm.chain.registry import Registry
from swarm.chain.settlements import Settlement, Settlements
from swarm.errors import SwarmError

logger = logging.getLogger(__name__)

EVERY_S = 5.0
CALL_S = 5.0
"""Deadline of one question to the node."""
MAX_SETTLEMENTS = 50
"""The newest ones are shown."""
_POSTED = keccak(b"SettlementPosted(uint64,bytes32,bytes32,uint256,address,uint256)")


@dataclass(frozen=True)
class Place:
    """Where a swarm's registry is."""

    rpc: str
    chain_id: int
    contract: str

    @property
    def rpc_host(self) -> str:
        """What may be shown of the url, whose path, query or user may carry a secret."""
        return urlsplit(self.rpc).netloc.rpartition("@")[2]


@dataclass(frozen=True)
class Posted:
    """A settlement on the chain, its state there, how many signed it, and the transaction that posted it."""

    settlement: Settlement
    state: str
    signers: int | None
    transaction: str | None


@dataclass(frozen=True)
class Standing:
    """What was last heard from the chain."""

    registered: frozenset[str] | None = None
    """Ids of all peers; None before the first answer."""
    genesis: int | None = None
    epoch_s: int | None = None
    settlements: tuple[Posted, ...] = ()
    """The newest first."""
    heard: float | None = None
    """Unix seconds of the last answer."""
    error: str | None = None
    """Why the chain is away; None while it answers."""
    away_since: float | None = None


def place_of(meta: Mapping[str, str]) -> Place | None:
    """Where the swarm of a journal lives, as the journal's table `meta` has it."""
    rpc, chain_id, contract = (meta.get(key) for key in ("rpc", "chain_id", "contract"))
    return Place(rpc, int(chain_id), contract) if rpc and chain_id and contract else None


class ChainWatch:
    """Asks again and again. `standing` is replaced as a whole, so that readers need no lock."""

    def __init__(self, place: Callable[[], Place | None], changed: Callable[[], None]) -> None:
        """`changed` is called from the thread whenever the chain says something new, or is away."""
        self.standing = Standing()
        self._place = place
        self._changed = changed
        self._registry: Registry | None = None
        self._asked: Place | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="chain-watch", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def look(self, place: Place) -> None:
        """Ask once. Where the chain gives no answer, what it said before stays."""
        try:
            if self._registry is None or place != self._asked:
                self._registry = Registry(Chain(place.rpc, CALL_S, place.chain_id), place.contract)
                self._asked = place
            self.standing = self._ask(self._registry)
        except SwarmError as error:
            since = self.standing.away_since or time.time()
            self.standing = replace(self.standing, error=str(error), away_since=since)

    def _run(self) -> None:
        while True:
            place, before = self._place(), self.standing
            if place is not None:
                try:
                    self.look(place)
                except Exception:
                    logger.exception("the chain could not be read, which is tried again")
                if replace(before, heard=None) != replace(self.standing, heard=None):
                    self._changed()
            if self._stop.wait(EVERY_S if place else 1.0):
                return

    def _ask(self, registry: Registry) -> Standing:
        terms, known = registry.terms(), self.standing
        count = registry.peer_count()
        registered = known.registered
        if registered is None or len(registered) != count:
            registered = frozenset(registry.peers())
        settlements = tuple(self._settlements(registry))
        return Standing(registered, terms.genesis, terms.epoch_seconds, settlements, time.time())

    def _settlements(self, registry: Registry) -> list[Posted]:
        settlements = Settlements(registry)
        known = {posted.settlement: posted for posted in self.standing.settlements}
        found: list[Posted] = []
        last: int | None = registry.view("firstOpenEpoch") - 1
        while last is not None and last >= 0 and len(found) < MAX_SETTLEMENTS:
            settlement = settlements.of(last)
            if settlement is None:
                break
            before = known.get(settlement, Posted(settlement, "", None, None))
            if before.transaction is None:
                signers, transaction = _posting(registry, settlement)
                before = replace(before, signers=signers, transaction=transaction)
            if before.state != "final":
                before = replace(before, state=settlements.state(last))
            found.append(before)
            last = settlement.previous
        return found


def _posting(registry: Registry, settlement: Settlement) -> tuple[int | None, str | None]:
    """How many signed a settlement, and the transaction that posted it, by the contract's event."""
    chain = registry.chain
    first = chain.first_block_at(settlement.posted_at)
    if first is None:
        return None, None
    # a development chain makes several blocks in one second
    after = chain.first_block_at(settlement.posted_at + 1)
    last = after.number - 1 if after else chain.head().number
    logs = chain.logs(registry.address, [_POSTED, settlement.epoch.to_bytes(32, "big")], first.number, last)
    if not logs:
        return None, None
    return int.from_bytes(logs[-1].data[-32:], "big"), "0x" + logs[-1].transaction_hash.hex()
