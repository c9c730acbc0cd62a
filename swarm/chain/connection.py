"""A connection to one chain: every answer is from the chain with the right id, or it is one sentence.

What cannot change while the connection lasts is kept; after a break the chain's id is asked again and all is read anew.
"""

from collections.abc import Hashable, Sequence
from typing import Any

from swarm.chain.abi import error_text
from swarm.chain.rpc import UNKNOWN_METHOD, ChainUnavailable, Request, Rpc, RpcError
from swarm.errors import SwarmError

MAX_KEPT = 4096


class Reverted(SwarmError):
    """A contract refused a call or a transaction; `data` is the error it returned."""

    def __init__(self, sentence: str, data: bytes) -> None:
        super().__init__(sentence)
        self.data = data


class Connection:
    """To the chain with the id `expected_chain_id`, or else to the one that is found first and to no other later."""

    def __init__(self, url: str, timeout_s: float, expected_chain_id: int | None) -> None:
        self._rpc = Rpc(url, timeout_s)
        self._chain_id = expected_chain_id
        self._checked = False
        self._kept: dict[Hashable, Any] = {}
        self.url = url
        self.host = self._rpc.host

    @property
    def chain_id(self) -> int:
        """The chain's id, checked once per connection.

        Raises:
            ChainUnavailable: no answer.
            SwarmError: it is not the expected one.
        """
        if not self._checked or self._chain_id is None:
            return self.check(self.told("eth_chainId", self._sent([("eth_chainId", [])])[0]))
        return self._chain_id

    def check(self, answer: object) -> int:
        """The id in an answer to eth_chainId, if it is the right one."""
        found = self.number(answer)
        if self._chain_id is None:
            self._chain_id = found
        self._checked = found == self._chain_id
        if not self._checked:
            raise SwarmError(
                f"the chain at {self.host} has the id {found}, but this swarm lives on chain {self._chain_id}; "
                "give the RPC url of that chain"
            )
        return found

    def call(self, method: str, *params: Any) -> Any:
        """What the chain answers to one request.

        Raises:
            Reverted: a contract refused.
            SwarmError: the node did; or the chain is another one.
            ChainUnavailable: no answer.
        """
        return self.told(method, self.batch([(method, params)])[0])

    def batch(self, requests: Sequence[Request]) -> list[Any]:
        """The answers to several requests; in place of one that is refused stands its RpcError."""
        _ = self.chain_id
        return self._sent(requests)

    def calls(self, requests: Sequence[Request]) -> list[Any]:
        """The answers to several requests of which none may be refused."""
        answers = self.batch(requests)
        return [self.told(method, answer) for (method, _), answer in zip(requests, answers, strict=True)]

    def told(self, method: str, answer: Any) -> Any:
        """The answer; one that is a refusal is raised as a sentence."""
        if not isinstance(answer, RpcError):
            return answer
        if answer.data or "revert" in str(answer).lower():
            reason = error_text(answer.data) if answer.data else str(answer)
            raise Reverted(f"the contract on the chain at {self.host} refuses this: {reason}", answer.data)
        if answer.code == UNKNOWN_METHOD:
            raise SwarmError(f"the node at {self.host} does not offer {method}; use another RPC url")
        raise SwarmError(f"the chain at {self.host} refuses {method}: {answer}")

    def kept(self, key: Hashable) -> Any:
        """What `keep` was given for this key since the connection was made; None if nothing."""
        return self._kept.get(key)

    def keep(self, key: Hashable, value: Any) -> None:
        """Remember what cannot change."""
        if len(self._kept) >= MAX_KEPT:
            self._kept = {}
        self._kept[key] = value

    def number(self, answer: object) -> int:
        """A quantity in an answer."""
        try:
            return int(answer, 16)  # type: ignore[call-overload]
        except (TypeError, ValueError) as error:
            raise self.odd_answer() from error

    def data(self, answer: object) -> bytes:
        """Bytes in an answer."""
        try:
            return bytes.fromhex(answer[2:])  # type: ignore[index]
        except (TypeError, ValueError) as error:
            raise self.odd_answer() from error

    def odd_answer(self) -> ChainUnavailable:
        return ChainUnavailable(f"the chain at {self.host} gave an answer in no known form; check the RPC url")

    def _sent(self, requests: Sequence[Request]) -> list[Any]:
        try:
            return self._rpc.batch(requests)
        except ChainUnavailable:
            self._checked, self._kept = False, {}  # when it answers again, another chain may be behind the url
            raise
