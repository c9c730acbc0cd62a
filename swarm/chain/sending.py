"""How a transaction gets into a block, whatever happens on the way.

It promises that what is asked for happens at most once. All versions of a transaction that are ever signed have the
same nonce, so that only one of them can be mined; a new nonce is taken only once another transaction of the account is
mined with the old one. What the chain lost (a restart, a reorganisation, a full mempool) is sent again, the same bytes;
what pays too little is replaced by a version that pays more.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import rlp
from eth_hash.auto import keccak
from filelock import FileLock, Timeout
from platformdirs import user_state_path

from swarm.chain.connection import Connection, Reverted
from swarm.chain.rpc import ChainUnavailable, Request, RpcError
from swarm.errors import SwarmError

GAS_MARGIN = 1.1  # state may change between estimate and block; unused gas costs nothing
FALLBACK_TIP_WEI = 10**9
MAX_REPLACEMENTS = 5
REPLACE_AFTER_S = 45.0  # several blocks of any chain: the tip is too small for its validators
MAX_NONCES = 3
NONCE_GRACE_S = 2.0  # some nodes count a transaction a moment before they have its receipt

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 2.0  # the embedded chain is done by now; a public one takes seconds
_LOCK_PAUSE_S = 0.05
_WEI_PER_ETHER = 10**18
_KNOWN = ("already known", "already imported", "known transaction", "nonce too low", "nonce too high")
_PAYS_TOO_LITTLE = ("underpriced", "base fee", "fee too low", "fee cap less", "tip too low")


class InsufficientFunds(SwarmError):
    """An account cannot pay for a transaction. `missing_wei` is what to send to `address`."""

    def __init__(self, sentence: str, address: str, missing_wei: int) -> None:
        super().__init__(sentence)
        self.address = address
        self.missing_wei = missing_wei


class Signer(Protocol):
    """An account that can pay: a peer's identity, or an owner's wallet."""

    @property
    def address(self) -> str: ...

    def sign_transaction(self, fields: dict[str, Any]) -> bytes:
        """The signed transaction as it is sent."""


@dataclass(frozen=True)
class Transaction:
    """What to do; the client adds nonce, gas and fees. `to` is None for a new contract; `value` in wei."""

    to: str | None
    data: bytes = b""
    value: int = 0

    def request(self, sender: str) -> dict[str, str]:
        """As eth_call and eth_estimateGas take it."""
        request = {"from": sender, "data": "0x" + self.data.hex(), "value": hex(self.value)}
        return request if self.to is None else {**request, "to": self.to}


@dataclass(frozen=True)
class Receipt:
    """A transaction that was mined and succeeded; `cost` is gas times price, in wei."""

    transaction_hash: bytes
    block_number: int
    gas_used: int
    cost: int
    contract_address: str | None


@dataclass(frozen=True)
class Quote:
    """What a transaction takes now: gas with a margin, fees in wei per gas, and the account's nonce and balance."""

    gas: int
    max_fee: int
    tip: int
    nonce: int
    balance: int


def quote(connection: Connection, sender: str, transaction: Transaction) -> Quote:
    """Try the transaction without sending it.

    Raises:
        Reverted: the contract refuses it.
        InsufficientFunds: the account has less than the transaction gives away; it may still lack the gas.
    """
    request = transaction.request(sender)
    chain_id, price, tip, balance, nonce, tried, gas = connection.batch(
        [
            ("eth_chainId", []),  # with every quote, as it is signed for
            ("eth_gasPrice", []),
            ("eth_maxPriorityFeePerGas", []),
            ("eth_getBalance", [sender, "latest"]),
            ("eth_getTransactionCount", [sender, "pending"]),
            ("eth_call", [request, "latest"]),
            ("eth_estimateGas", [request]),
        ]
    )
    connection.check(connection.told("eth_chainId", chain_id))
    balance = connection.number(connection.told("eth_getBalance", balance))
    if balance < transaction.value:
        raise _insufficient(connection, sender, balance, transaction.value)
    connection.told("eth_call", tried)  # some nodes give the contract's error here only
    # The tip's method is not in the standard, so some nodes lack it.
    tip = FALLBACK_TIP_WEI if isinstance(tip, RpcError) else connection.number(tip)
    return Quote(
        gas=int(connection.number(connection.told("eth_estimateGas", gas)) * GAS_MARGIN),
        max_fee=2 * connection.number(connection.told("eth_gasPrice", price)) + tip,
        tip=tip,
        nonce=connection.number(connection.told("eth_getTransactionCount", nonce)),
        balance=balance,
    )


class Sending:
    """One transaction on its way. `versions` are the signed forms that it has so far, all with one nonce."""

    def __init__(
        self,
        connection: Connection,
        signer: Signer,
        transaction: Transaction,
        *,
        timeout_s: float,
        earlier: Sequence[bytes],
        keep: Callable[[Sequence[bytes]], None],
        stop: threading.Event,
    ) -> None:
        self._connection = connection
        self._signer = signer
        self._transaction = transaction
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._versions = [_Version(raw) for raw in earlier]
        self._keep = keep
        self._stop = stop
        self._pause_s = _FIRST_PAUSE_S
        self._trouble: ChainUnavailable | None = None
        self._nonces = 1
        self._nonce_taken_at: float | None = None
        self._signed_at = time.monotonic()

    def run(self, confirmations: int) -> Receipt:
        """Until it is under so many blocks, its own included. If a reorganisation drops it, it is sent again."""
        while True:
            with self._turn():
                receipt: Receipt | None = self._until_mined()
            while receipt is not None:
                if confirmations <= 1:
                    return receipt
                self._pause()
                try:
                    receipt, head = self._mined_or_head()
                except ChainUnavailable as error:
                    self._trouble = error
                    continue
                if receipt is not None and head - receipt.block_number + 1 >= confirmations:
                    return receipt

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """An account has one row of nonces, whatever thread or process of this machine uses it."""
        folder = user_state_path("rl-swarm") / "accounts"
        lock = FileLock(folder / f"{self._connection.chain_id}-{self._signer.address.lower()}.lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    self._pause(_LOCK_PAUSE_S)
        except OSError as error:
            raise SwarmError(
                f"the folder {folder} cannot be written: {error.strerror}; point XDG_STATE_HOME to one that can"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _until_mined(self) -> Receipt:
        while True:
            try:
                if not self._versions:
                    self._sign()
                receipt, _ = self._mined_or_head()
                if receipt is not None:
                    return receipt
                self._move_on()
                self._trouble = None
            except ChainUnavailable as error:
                if not self._versions:
                    raise
                self._trouble = error
            self._pause()

    def _sign(self) -> None:
        terms = quote(self._connection, self._signer.address, self._transaction)
        cost = terms.gas * terms.max_fee + self._transaction.value
        if terms.balance < cost:
            raise _insufficient(self._connection, self._signer.address, terms.balance, cost)
        self._add_version(terms)

    def _add_version(self, terms: Quote) -> None:
        raw = self._signer.sign_transaction(
            {
                "chainId": self._connection.chain_id,
                "nonce": terms.nonce,
                "to": self._transaction.to or b"",
                "value": self._transaction.value,
                "data": self._transaction.data,
                "gas": terms.gas,
                "maxFeePerGas": terms.max_fee,
                "maxPriorityFeePerGas": terms.tip,
            }
        )
        self._versions.append(_Version(raw))
        self._keep([version.raw for version in self._versions])  # before anybody else can have it
        self._signed_at = time.monotonic()
        self._pause_s = _FIRST_PAUSE_S
        self._broadcast()

    def _broadcast(self) -> None:
        try:
            answer = self._connection.batch([("eth_sendRawTransaction", ["0x" + self._versions[-1].raw.hex()])])[0]
        except ChainUnavailable:
            return  # whether it arrived is seen later
        if not isinstance(answer, RpcError):
            return
        text = str(answer).lower()
        if "replacement" in text and len(self._versions) == 1:
            return  # another machine's transaction has this nonce; once it is mined, the next one is ours
        if any(words in text for words in _PAYS_TOO_LITTLE):
            self._replace()
        elif "insufficient funds" in text:
            balance, cost = self._balance(), self._versions[-1].gas_cost + self._transaction.value
            raise _insufficient(self._connection, self._signer.address, min(balance, cost - 1), cost)
        elif not any(words in text for words in _KNOWN):
            self._connection.check(self._connection.call("eth_chainId"))  # the likeliest reason, and a better sentence
            raise SwarmError(f"the chain at {self._connection.host} refuses a transaction: {answer}")

    def _mined_or_head(self) -> tuple[Receipt | None, int]:
        """The receipt of the version that was mined, if one was, and the number of the newest block."""
        asked = [("eth_blockNumber", []), *(("eth_getTransactionReceipt", [each.hash]) for each in self._versions)]
        head, *receipts = self._answers(asked)
        for found in receipts:
            if found is not None:
                return receipt_of(self._connection, found), self._connection.number(head)
        return None, self._connection.number(head)

    def _move_on(self) -> None:
        """See why it is not mined yet, and do something about it."""
        newest = self._versions[-1]
        known, count, block = self._answers(
            [
                ("eth_getTransactionByHash", [newest.hash]),
                ("eth_getTransactionCount", [self._signer.address, "latest"]),
                ("eth_getBlockByNumber", ["latest", False]),
            ]
        )
        if self._connection.number(count) > newest.nonce:
            self._nonce_taken_at = self._nonce_taken_at or time.monotonic()
            if time.monotonic() > self._nonce_taken_at + NONCE_GRACE_S:
                self._next_nonce()
            return
        self._nonce_taken_at = None
        if known is None:
            self._broadcast()
            return
        base_fee = block.get("baseFeePerGas") if isinstance(block, dict) else None
        too_little = base_fee is not None and self._connection.number(base_fee) > newest.max_fee
        if too_little or time.monotonic() > self._signed_at + REPLACE_AFTER_S:
            self._replace()

    def _next_nonce(self) -> None:
        """Another transaction of the account has the nonce, so no version of this one can be mined any more."""
        if self._nonces == MAX_NONCES:
            raise SwarmError(
                f"another program sends from the account {self._signer.address} at the same time and was first "
                f"{MAX_NONCES} times; stop one of them"
            )
        self._nonces += 1
        self._nonce_taken_at = None
        self._versions = []
        self._keep([])

    def _replace(self) -> None:
        """Sign a version that pays what is asked now, and at least an eighth more than the last, as nodes demand."""
        newest = self._versions[-1]
        if len(self._versions) > MAX_REPLACEMENTS:
            return
        price, tip = self._connection.batch([("eth_gasPrice", []), ("eth_maxPriorityFeePerGas", [])])
        price = self._connection.number(self._connection.told("eth_gasPrice", price))
        tip = max(_raised(newest.tip), 0 if isinstance(tip, RpcError) else self._connection.number(tip))
        max_fee = max(_raised(newest.max_fee), 2 * price + tip)
        balance = self._balance()
        if balance >= newest.gas * max_fee + self._transaction.value:  # else the one that is out may still do
            self._add_version(Quote(newest.gas, max_fee, tip, newest.nonce, balance))

    def _balance(self) -> int:
        return self._connection.number(self._connection.call("eth_getBalance", self._signer.address, "latest"))

    def _answers(self, asked: Sequence[Request]) -> list[Any]:
        """Answers on the way of a transaction. A refusal passes, such as geth's while it indexes transactions."""
        answers = self._connection.batch(asked)
        for answer in answers:
            if isinstance(answer, RpcError):
                raise ChainUnavailable(
                    f"the chain at {self._connection.host} cannot say what became of a transaction: {answer}"
                )
        return answers

    def _pause(self, pause_s: float | None = None) -> None:
        if self._stop.wait(pause_s or self._pause_s):
            raise ChainUnavailable("the sending of a transaction was stopped; it may still be mined")
        if time.monotonic() > self._deadline:
            what = f"the transaction {self._versions[-1].hash}" if self._versions else "a transaction"
            raise self._trouble or ChainUnavailable(
                f"{what} of {self._signer.address} was not mined within {self._timeout_s:g} s on the chain at "
                f"{self._connection.host}; it may still be: look before sending it again"
            )
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)


class _Version:
    """A signed transaction with fees by EIP-1559, as bytes."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.hash = "0x" + keccak(raw).hex()
        fields = rlp.decode(raw[1:])  # after the byte of the type: chain id, nonce, tip, maximal fee, gas, ...
        self.nonce, self.tip, self.max_fee, self.gas = (int.from_bytes(field, "big") for field in fields[1:5])

    @property
    def gas_cost(self) -> int:
        """At most, in wei."""
        return self.gas * self.max_fee


def receipt_of(connection: Connection, found: Any) -> Receipt:
    """A receipt as the chain gives it.

    Raises:
        Reverted: the transaction was mined and failed.
    """
    try:
        succeeded = int(found["status"], 16) == 1
        gas_used = int(found["gasUsed"], 16)
        receipt = Receipt(
            transaction_hash=bytes.fromhex(found["transactionHash"][2:]),
            block_number=int(found["blockNumber"], 16),
            gas_used=gas_used,
            cost=gas_used * int(found.get("effectiveGasPrice", "0x0"), 16),
            contract_address=found.get("contractAddress"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise connection.odd_answer() from error
    if not succeeded:
        name = "0x" + receipt.transaction_hash.hex()
        raise Reverted(f"the transaction {name} was mined but failed; the chain changed meanwhile", b"")
    return receipt


def _raised(fee: int) -> int:
    return fee + fee // 8 + 1


def _insufficient(connection: Connection, address: str, balance: int, cost: int) -> InsufficientFunds:
    missing = cost - balance
    return InsufficientFunds(
        f"the account {address} has {_ether(balance)} ether on chain {connection.chain_id} and this transaction may "
        f"cost {_ether(cost)}; send it at least {_ether(missing)} ether",
        address,
        missing,
    )


def _ether(wei: int) -> str:
    return f"{wei / _WEI_PER_ETHER:.6g}"
