"""Finding the other peers, and finding them again: bootstrap addresses, remembered addresses, greetings."""

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence

from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils.multiaddr import Multiaddr

from swarm.network.addresses import check_address
from swarm.network.dht import SwarmNode

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 8.0
_REFRESH_S = 30.0
_REMEMBER_S = 5.0
_REJOIN_S = (1.0, 30.0)
_MAX_REMEMBERED = 256
_MAX_GROUPS = 8


class Meeting:
    """Whom this node knows how to reach. Nobody's silence raises or holds anything up beyond its deadline."""

    def __init__(self, node: SwarmNode, bootstrap: Sequence[Sequence[str]]) -> None:
        """`bootstrap`: groups of multiaddrs with peer ids, tried group by group whenever this peer is alone."""
        self._node = node
        self._bootstrap = [list(group) for group in bootstrap if group]
        self._remembered: dict[str, list[Multiaddr]] = {}

    def adopt(self, node: SwarmNode) -> None:
        """Go on with another node, after p2pd was started again."""
        self._node = node

    def remember(self, addresses: Sequence[str]) -> None:
        """Add addresses to those that are tried whenever this peer is alone."""
        self._bootstrap = [list(addresses), *self._bootstrap][:_MAX_GROUPS]

    async def join(self, addresses: Sequence[str], timeout_s: float) -> bool:
        """Meet the peers at `addresses`, and through them their neighbours; whether any answered in time."""
        ways: dict[PeerID, list[Multiaddr]] = {}
        for address in addresses:
            peer, way = check_address(address)
            if peer != self._node.peer_id:
                ways.setdefault(peer, []).append(way)
        return await self._meet(ways, timeout_s)

    async def again(self, timeout_s: float = math.inf) -> bool:
        """Try everybody who is known from before, one group of addresses after the other, until somebody answers."""
        deadline = time.monotonic() + timeout_s
        for group in list(self._bootstrap):
            left = deadline - time.monotonic()
            if left > 0 and await self.join(group, min(CONNECT_TIMEOUT_S, left)):
                return True
        ways = {PeerID.from_base58(peer): way for peer, way in self._remembered.items()}
        return await self._meet(ways, max(0.0, min(CONNECT_TIMEOUT_S, deadline - time.monotonic())))

    async def keep_on(self) -> None:
        """Never ends: look for others while alone, and note where those are who are here."""
        pause_s = _REJOIN_S[0]
        refreshed = time.monotonic()
        while True:
            await asyncio.sleep(pause_s if not self._node.peers() else _REMEMBER_S)
            try:
                if not self._node.peers():
                    await self.again()
                    pause_s = min(_REJOIN_S[1], pause_s * 2)
                    continue
                pause_s = _REJOIN_S[0]
                await self._remember_peers()
                if time.monotonic() - refreshed > _REFRESH_S:
                    refreshed = time.monotonic()
                    await self._node.find_nearest_nodes([self._node.node_id])
            except (P2PDaemonError, OSError, EOFError, TimeoutError) as error:
                _log.debug("meeting peers failed: %r", error)
            except Exception:  # noqa: BLE001 - one odd tick must not end them all; it is logged as the bug it is
                _log.exception("meeting peers failed, and goes on")

    async def _meet(self, ways: Mapping[PeerID, Sequence[Multiaddr]], timeout_s: float) -> bool:
        if not ways:
            return False
        calls = [asyncio.ensure_future(self._greet(peer, addresses)) for peer, addresses in ways.items()]
        deadline = time.monotonic() + timeout_s
        pending: set[asyncio.Future[bool]] = set(calls)
        while pending and not any(call.done() and call.result() for call in calls):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            _, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if pending:  # one answered: give the others a moment, then go on without them
            _, pending = await asyncio.wait(pending, timeout=min(1.0, max(0.0, deadline - time.monotonic())))
        for call in pending:
            call.cancel()
        if not any(call.done() and not call.cancelled() and call.result() for call in calls):
            return False
        looking = asyncio.ensure_future(self._node.find_nearest_nodes([self._node.node_id]))
        await asyncio.wait([looking], timeout=max(0.0, deadline - time.monotonic()))
        return True

    async def _greet(self, peer: PeerID, addresses: Sequence[Multiaddr]) -> bool:
        try:
            if addresses:
                await asyncio.wait_for(self._node.p2p._client.connect(peer, addresses), CONNECT_TIMEOUT_S)
            return await self._node.protocol.call_ping(peer) is not None
        except (P2PDaemonError, OSError, EOFError, TimeoutError) as error:
            _log.debug("cannot reach %s: %s", peer, error)
            return False

    async def _remember_peers(self) -> None:
        """Note the addresses of connected peers, and greet those that are connected and not in the routing table."""
        connected = await asyncio.wait_for(self._node.p2p.list_peers(), CONNECT_TIMEOUT_S)
        known = set(self._node.peers())
        for info in connected:
            if info.peer_id in known:
                self._remembered.pop(info.peer_id.to_base58(), None)
                self._remembered[info.peer_id.to_base58()] = list(info.addrs)
        while len(self._remembered) > _MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        strangers = [info.peer_id for info in connected if info.peer_id not in known][:8]
        await asyncio.gather(*(self._greet(peer, ()) for peer in strangers))
