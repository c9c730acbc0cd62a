"""One client for any Ethereum JSON-RPC url: the embedded development chain or a public one.

It promises that every call ends by its deadline, with a result or with one sentence that says what is wrong.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarm.chain.connection import Connection, Reverted
from swarm.chain.rpc import ChainUnavailable, RpcError
from swarm.chain.sending import InsufficientFunds, Receipt, Sending, Signer, Transaction, quote, receipt_of
from swarm.errors import SwarmError

__all__ = [
    "Block",
    "Chain",
    "ChainUnavailable",
    "InsufficientFunds",
    "Log",
    "Receipt",
    "Reverted",
    "Signer",
    "Transaction",
]

RECEIPT_TIMEOUT_S = 120.0
DEEP_BLOCKS = 16
"""A block with so many on top of it is taken to stay, and kept."""

_STRIDES = 8
_POINTS = 15


@dataclass(frozen=True)
class Block:
    """The head of a block; `timestamp` in unix seconds."""

    number: int
    hash: bytes
    timestamp: int


@dataclass(frozen=True)
class Log:
    """An event of a contract."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    transaction_hash: bytes


class Chain:
    """A chain behind an RPC url. `expected_chain_id` guards against a url that leads to another chain."""

    def __init__(self, url: str, timeout_s: float = 10, expected_chain_id: int | None = None) -> None:
        self._connection = Connection(url, timeout_s, expected_chain_id)
        self._head_number = 0  # the highest seen

    def __repr__(self) -> str:
        return f"Chain({self._connection.host})"

    @property
    def url(self) -> str:
        """The RPC url. It may carry a secret: for invites that the user shares knowingly, not for logs."""
        return self._connection.url

    @property
    def chain_id(self) -> int:
        """The chain's id.

        Raises:
            ChainUnavailable: no answer.
            SwarmError: it is not the expected one, or not the one of before.
        """
        return self._connection.chain_id

    def balance(self, address: str) -> int:
        """In wei."""
        return self._connection.number(self._connection.call("eth_getBalance", address, "latest"))

    def code(self, address: str) -> bytes:
        """The contract code at an address; empty where there is none."""
        key = ("code", address.lower())
        code = self._connection.kept(key)
        if code is None:
            code = self._connection.data(self._connection.call("eth_getCode", address, "latest"))
            if code:
                self._connection.keep(key, code)
        return code

    def call(self, to: str, data: bytes) -> bytes:
        """What a view function returns.

        Raises:
            Reverted: the contract refused.
        """
        return self.call_all([(to, data)])[0]

    def call_all(self, calls: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """What several view functions return, each given as contract and call data, in one request.

        Raises:
            Reverted: a contract refused.
        """
        requests = [("eth_call", [{"to": to, "data": "0x" + data.hex()}, "latest"]) for to, data in calls]
        return [self._connection.data(answer) for answer in self._connection.calls(requests)]

    def faucet(self, address: str) -> bool:
        """Ask for test ether; a development chain gives some to an account with little. False: there is no faucet."""
        # Public nodes word and number "no such method" in many ways.
        return not isinstance(self._connection.batch([("swarm_faucet", [address])])[0], RpcError)

    def estimate(self, address: str, transaction: Transaction) -> tuple[int, int]:
        """The gas, with a margin, and the most that a transaction of `address` may cost now, in wei. Nothing is sent.

        Raises:
            Reverted: the contract refuses it.
            InsufficientFunds: the account has less than the transaction gives away; it may still lack the gas.
        """
        terms = quote(self._connection, address, transaction)
        return terms.gas, terms.gas * terms.max_fee + transaction.value

    def send(
        self,
        signer: Signer,
        transaction: Transaction,
        timeout_s: float = RECEIPT_TIMEOUT_S,
        *,
        confirmations: int = 1,
        earlier: Sequence[bytes] = (),
        keep: Callable[[Sequence[bytes]], None] = lambda versions: None,
        stop: threading.Event | None = None,
    ) -> Receipt:
        """Sign, send and wait until it is mined. Sends of one account on this machine are done one after the other.

        `confirmations` counts the blocks that have to include it or stand on it. To survive a kill, `keep` writes down
        the signed versions of the transaction each time there is another, before it is sent, and `earlier` gives them
        back after a restart: then they are sent again, and nothing else is signed unless they cannot be mined any more.

        Raises:
            InsufficientFunds: the account cannot pay.
            Reverted: the contract refuses; mostly nothing was sent.
            ChainUnavailable: no answer, `stop` was set, or not mined within `timeout_s` seconds (it may be later).
        """
        sending = Sending(
            self._connection,
            signer,
            transaction,
            timeout_s=timeout_s,
            earlier=earlier,
            keep=keep,
            stop=stop or threading.Event(),
        )
        return sending.run(confirmations)

    def receipt(self, transaction_hash: bytes) -> Receipt | None:
        """What became of a transaction; None while it is in no block.

        Raises:
            Reverted: it was mined and failed.
        """
        key = ("receipt", transaction_hash)
        receipt = self._connection.kept(key)
        if receipt is None:
            found = self._connection.call("eth_getTransactionReceipt", "0x" + transaction_hash.hex())
            if found is None:
                return None
            receipt = receipt_of(self._connection, found)
            if self._is_deep(receipt.block_number):
                self._connection.keep(key, receipt)
        return receipt

    def logs(self, address: str, topics: Sequence[bytes | None], first: int, last: int) -> list[Log]:
        """The events of a contract in the blocks `first` to `last`, in order; a topic that is None is any.

        A node that finds the range too wide is asked for its halves.
        """
        wanted = [None if topic is None else "0x" + topic.hex() for topic in topics]
        query = {"address": address, "topics": wanted, "fromBlock": hex(first), "toBlock": hex(last)}
        try:
            found = self._connection.call("eth_getLogs", query)
        except ChainUnavailable:
            raise
        except SwarmError:
            if first >= last:
                raise
            middle = (first + last) // 2
            return self.logs(address, topics, first, middle) + self.logs(address, topics, middle + 1, last)
        try:
            return [
                Log(
                    log["address"],
                    tuple(bytes.fromhex(topic[2:]) for topic in log["topics"]),
                    bytes.fromhex(log["data"][2:]),
                    int(log["blockNumber"], 16),
                    bytes.fromhex(log["transactionHash"][2:]),
                )
                for log in found
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise self._connection.odd_answer() from error

    def block(self, number: int | None = None) -> Block | None:
        """A block by number, or the newest one. None where it does not exist."""
        return self._newest() if number is None else self._blocks([number])[0]

    def head(self) -> Block:
        """The newest block."""
        found = self._newest()
        if found is None:
            raise self._connection.odd_answer()
        return found

    def first_block_at(self, timestamp: int) -> Block | None:
        """The first block at or after `timestamp` (unix seconds); None while the newest block is older.

        It takes about log2(n) / 4 + 2 requests for a block n below the head, each for several blocks.
        """
        late = self.head()
        if late.timestamp < timestamp:
            return None
        stride = 1
        early = None
        while early is None and late.number > 0:
            strides = [stride << step for step in range(_STRIDES)]
            stride = 2 * strides[-1]
            early, late = _around(timestamp, late, self._existing([max(0, late.number - step) for step in strides]))
        if early is None:
            return late
        while (gap := late.number - early.number) > 1:
            points = {late.number - max(1, gap * point // (_POINTS + 1)) for point in range(1, _POINTS + 1)}
            nearer, late = _around(timestamp, late, self._existing(sorted(points - {early.number}, reverse=True)))
            early = nearer or early
        return late

    def _newest(self) -> Block | None:
        found = self._block_of(self._connection.call("eth_getBlockByNumber", "latest", False))
        if found is not None:
            self._head_number = found.number
        return found

    def _blocks(self, numbers: Sequence[int]) -> list[Block | None]:
        blocks = {number: self._connection.kept(("block", number)) for number in numbers}
        missing = [number for number, block in blocks.items() if block is None]
        answers = self._connection.calls([("eth_getBlockByNumber", [hex(number), False]) for number in missing])
        for number, answer in zip(missing, answers, strict=True):
            blocks[number] = block = self._block_of(answer)
            if block is not None and self._is_deep(number):
                self._connection.keep(("block", number), block)
        return [blocks[number] for number in numbers]

    def _existing(self, numbers: Sequence[int]) -> list[Block]:
        blocks = self._blocks(numbers)
        for number, block in zip(numbers, blocks, strict=True):
            if block is None:
                raise ChainUnavailable(
                    f"the chain at {self._connection.host} does not have its own block {number}; "
                    "its node may still be syncing"
                )
        return [block for block in blocks if block is not None]

    def _is_deep(self, number: int) -> bool:
        return number + DEEP_BLOCKS <= self._head_number

    def _block_of(self, answer: object) -> Block | None:
        if answer is None:
            return None
        try:
            return Block(
                int(answer["number"], 16),  # type: ignore[index]
                bytes.fromhex(answer["hash"][2:]),  # type: ignore[index]
                int(answer["timestamp"], 16),  # type: ignore[index]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._connection.odd_answer() from error


def _around(timestamp: int, late: Block, earlier: Sequence[Block]) -> tuple[Block | None, Block]:
    """Of blocks from new to old, the newest before `timestamp` and the oldest not before it."""
    for block in earlier:
        if block.timestamp < timestamp:
            return block, late
        late = block
    return None, late
