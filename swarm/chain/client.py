"""One client for any Ethereum JSON-RPC url: the embedded development chain or a public one.

It promises that every call ends by its deadline, with a result or with one sentence that says what is wrong.
"""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from eth_account import Account

from swarm.chain.abi import error_text
from swarm.chain.rpc import UNKNOWN_METHOD, ChainUnavailable, Rpc, RpcError
from swarm.errors import SwarmError
from swarm.identity.key import Identity

__all__ = ["Block", "Chain", "ChainUnavailable", "InsufficientFunds", "Receipt", "Reverted", "Transaction"]

RECEIPT_TIMEOUT_S = 120.0
GAS_MARGIN = 1.1  # state may change between estimate and block; unused gas costs nothing

FALLBACK_TIP_WEI = 10**9

_SEND_ATTEMPTS = 3
_WEI_PER_ETHER = 10**18
# One account has one row of nonces, whatever client object uses it.
_account_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class InsufficientFunds(SwarmError):
    """An account cannot pay for a transaction. `missing_wei` is what to send to `address`."""

    def __init__(self, sentence: str, address: str, missing_wei: int) -> None:
        super().__init__(sentence)
        self.address = address
        self.missing_wei = missing_wei


class Reverted(SwarmError):
    """A contract refused a call or a transaction; `data` is the error it returned."""

    def __init__(self, sentence: str, data: bytes) -> None:
        super().__init__(sentence)
        self.data = data


@dataclass(frozen=True)
class Block:
    """The head of a block; `timestamp` in unix seconds."""

    number: int
    hash: bytes
    timestamp: int


@dataclass(frozen=True)
class Transaction:
    """What to do; the client adds nonce, gas and fees. `to` is None for a new contract; `value` in wei."""

    to: str | None
    data: bytes = b""
    value: int = 0


@dataclass(frozen=True)
class Receipt:
    """A transaction that was mined and succeeded; `cost` is gas times price, in wei."""

    transaction_hash: bytes
    block_number: int
    gas_used: int
    cost: int
    contract_address: str | None


class Chain:
    """A chain behind an RPC url. `expected_chain_id` guards against a url that leads to another chain."""

    def __init__(self, url: str, timeout_s: float = 10, expected_chain_id: int | None = None) -> None:
        self._rpc = Rpc(url, timeout_s)
        self._expected_chain_id = expected_chain_id
        self._chain_id: int | None = None

    def __repr__(self) -> str:
        return f"Chain({self._rpc.host})"

    @property
    def url(self) -> str:
        """The RPC url. It may carry a secret: for invites that the user shares knowingly, not for logs."""
        return self._rpc.url

    @property
    def chain_id(self) -> int:
        """The chain's id.

        Raises:
            ChainUnavailable: no answer.
            SwarmError: it is not the expected one.
        """
        if self._chain_id is None:
            found = self._number(self._told("eth_chainId"))
            if self._expected_chain_id not in (None, found):
                raise SwarmError(
                    f"the chain at {self._rpc.host} has the id {found}, but this swarm lives on chain "
                    f"{self._expected_chain_id}; give the RPC url of that chain"
                )
            self._chain_id = found
        return self._chain_id

    def balance(self, address: str) -> int:
        """In wei."""
        return self._number(self._call("eth_getBalance", address, "latest"))

    def code(self, address: str) -> bytes:
        """The contract code at an address; empty where there is none."""
        return self._data(self._call("eth_getCode", address, "latest"))

    def call(self, to: str, data: bytes) -> bytes:
        """What a view function returns.

        Raises:
            Reverted: the contract refused.
        """
        return self._data(self._call("eth_call", {"to": to, "data": "0x" + data.hex()}, "latest"))

    def faucet(self, address: str) -> bool:
        """Ask for test ether; a development chain gives some to an account with little. False: there is no faucet."""
        _ = self.chain_id
        try:
            self._request("swarm_faucet", address)
        except RpcError:  # public nodes word and number "no such method" in many ways
            return False
        return True

    def send(self, identity: Identity, transaction: Transaction, timeout_s: float = RECEIPT_TIMEOUT_S) -> Receipt:
        """Sign, send and wait until it is mined. Sends of one account in this process are done one after the other.

        Raises:
            InsufficientFunds: the account cannot pay; nothing was sent.
            Reverted: the contract refuses; mostly nothing was sent.
            ChainUnavailable: no answer, or not mined within `timeout_s` seconds (it may be mined later).
        """
        with _account_locks[identity.address]:
            for attempt in range(1, _SEND_ATTEMPTS + 1):
                raw, transaction_hash = self._signed(identity, transaction)
                try:
                    self._request("eth_sendRawTransaction", raw)
                    break
                except RpcError as error:
                    text = str(error).lower()
                    if "already known" in text or self._is_known(transaction_hash):
                        break
                    # Another process uses the same account: take the next nonce.
                    if not ("nonce" in text or "underpriced" in text) or attempt == _SEND_ATTEMPTS:
                        raise SwarmError(f"the chain at {self._rpc.host} refuses a transaction: {error}") from error
            return self._receipt(transaction_hash, timeout_s)

    def block(self, number: int | None = None) -> Block | None:
        """A block by number, or the newest one. None where it does not exist."""
        found = self._call("eth_getBlockByNumber", "latest" if number is None else hex(number), False)
        if found is None:
            return None
        try:
            return Block(int(found["number"], 16), bytes.fromhex(found["hash"][2:]), int(found["timestamp"], 16))
        except (KeyError, TypeError, ValueError) as error:
            raise self._odd_answer() from error

    def head(self) -> Block:
        """The newest block."""
        found = self.block()
        if found is None:
            raise self._odd_answer()
        return found

    def first_block_at(self, timestamp: int) -> Block | None:
        """The first block at or after `timestamp` (unix seconds); None while the newest block is older.

        It takes about 2 log2(n) requests for a block n below the head.
        """
        late = self.head()
        if late.timestamp < timestamp:
            return None
        stride = 1
        while late.number > 0:
            early = self._existing(max(0, late.number - stride))
            if early.timestamp < timestamp:
                break
            late, stride = early, stride * 2
        else:
            return late
        while late.number - early.number > 1:
            middle = self._existing((early.number + late.number) // 2)
            if middle.timestamp < timestamp:
                early = middle
            else:
                late = middle
        return late

    # below: how it is done

    def _request(self, method: str, *params: Any) -> Any:
        try:
            return self._rpc.call(method, *params)
        except ChainUnavailable:
            self._chain_id = None  # when it answers again, another chain may be behind the url
            raise

    def _call(self, method: str, *params: Any) -> Any:
        """A request to the right chain; a refusal is told as a sentence."""
        _ = self.chain_id
        return self._told(method, *params)

    def _told(self, method: str, *params: Any) -> Any:
        try:
            return self._request(method, *params)
        except RpcError as error:
            raise self._refusal(method, error) from error

    def _refusal(self, method: str, error: RpcError) -> SwarmError:
        if error.data or "revert" in str(error).lower():
            reason = error_text(error.data) if error.data else str(error)
            return Reverted(f"the contract on the chain at {self._rpc.host} refuses this: {reason}", error.data)
        if error.code == UNKNOWN_METHOD:
            return SwarmError(f"the node at {self._rpc.host} does not offer {method}; use another RPC url")
        return SwarmError(f"the chain at {self._rpc.host} refuses {method}: {error}")

    def _odd_answer(self) -> ChainUnavailable:
        return ChainUnavailable(f"the chain at {self._rpc.host} gave an answer in no known form; check the RPC url")

    def _number(self, answer: object) -> int:
        try:
            return int(answer, 16)  # type: ignore[call-overload]
        except (TypeError, ValueError) as error:
            raise self._odd_answer() from error

    def _data(self, answer: object) -> bytes:
        try:
            return bytes.fromhex(answer[2:])  # type: ignore[index]
        except (TypeError, ValueError) as error:
            raise self._odd_answer() from error

    def _existing(self, number: int) -> Block:
        found = self.block(number)
        if found is None:
            raise ChainUnavailable(
                f"the chain at {self._rpc.host} does not have its own block {number}; its node may still be syncing"
            )
        return found

    def _signed(self, identity: Identity, transaction: Transaction) -> tuple[str, str]:
        chain_id = self.chain_id
        request = {"from": identity.address, "data": "0x" + transaction.data.hex(), "value": hex(transaction.value)}
        if transaction.to is not None:
            request["to"] = transaction.to
        tip = self._tip()
        max_fee = 2 * self._number(self._call("eth_gasPrice")) + tip
        balance = self.balance(identity.address)
        if balance < transaction.value:
            raise self._insufficient(identity.address, balance, transaction.value)
        gas = int(self._number(self._call("eth_estimateGas", request)) * GAS_MARGIN)
        cost = gas * max_fee + transaction.value
        if balance < cost:
            raise self._insufficient(identity.address, balance, cost)
        signed = Account.sign_transaction(
            {
                "chainId": chain_id,
                "nonce": self._number(self._call("eth_getTransactionCount", identity.address, "pending")),
                "to": transaction.to or b"",
                "value": transaction.value,
                "data": transaction.data,
                "gas": gas,
                "maxFeePerGas": max_fee,
                "maxPriorityFeePerGas": tip,
            },
            identity.secret,
        )
        return "0x" + bytes(signed.raw_transaction).hex(), "0x" + bytes(signed.hash).hex()

    def _tip(self) -> int:
        try:
            return self._number(self._request("eth_maxPriorityFeePerGas"))
        except RpcError:  # not in the standard, so some nodes lack it
            return FALLBACK_TIP_WEI

    def _insufficient(self, address: str, balance: int, cost: int) -> InsufficientFunds:
        missing = cost - balance
        return InsufficientFunds(
            f"the account {address} has {_ether(balance)} ether on chain {self.chain_id} and this transaction may cost "
            f"{_ether(cost)}; send it at least {_ether(missing)} ether",
            address,
            missing,
        )

    def _is_known(self, transaction_hash: str) -> bool:
        return self._call("eth_getTransactionByHash", transaction_hash) is not None

    def _receipt(self, transaction_hash: str, timeout_s: float) -> Receipt:
        deadline = time.monotonic() + timeout_s
        wait_s = 0.02  # the embedded chain is done by now; a public one takes seconds
        while (found := self._call("eth_getTransactionReceipt", transaction_hash)) is None:
            if time.monotonic() > deadline:
                raise ChainUnavailable(
                    f"the transaction {transaction_hash} was not mined within {timeout_s:g} s; it may still be: look "
                    "before sending it again"
                )
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, 2.0)
        try:
            succeeded = int(found["status"], 16) == 1
            gas_used = int(found["gasUsed"], 16)
            receipt = Receipt(
                transaction_hash=bytes.fromhex(transaction_hash[2:]),
                block_number=int(found["blockNumber"], 16),
                gas_used=gas_used,
                cost=gas_used * int(found.get("effectiveGasPrice", "0x0"), 16),
                contract_address=found.get("contractAddress"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._odd_answer() from error
        if not succeeded:
            raise Reverted(f"the transaction {transaction_hash} was mined but failed; the chain changed meanwhile", b"")
        return receipt


def _ether(wei: int) -> str:
    return f"{wei / _WEI_PER_ETHER:.6g}"
