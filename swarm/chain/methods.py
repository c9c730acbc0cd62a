"""The JSON-RPC methods of the development node: parameters in, Ethereum's hex forms out.

It promises to turn every request into exactly one answer, whatever the request holds. All of it runs in one thread.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from eth_utils.crypto import keccak

from swarm.chain.forms import (
    BadParams,
    account_bytes,
    block_form,
    call_of,
    data_bytes,
    hex_form,
    log_form,
    matches,
    options,
    quantity,
    receipt_form,
    transaction_form,
    word_form,
)
from swarm.chain.ledger import (
    PRIORITY_FEE_WEI,
    ExecutionReverted,
    Ledger,
    LedgerError,
    base_fee,
)

CLIENT_VERSION = "rl-swarm-development/1"
MAX_BATCH = 100
MAX_BRACKETS = 5000  # py-evm raises the recursion limit so far that deeper JSON would overflow the stack
MAX_LOGS = 10_000
MAX_LOG_TRANSACTIONS = 20_000  # a few seconds of work: one query must not stop the others for long
MAX_FEE_HISTORY_BLOCKS = 1024

_PARSE_ERROR, _INVALID_REQUEST, _UNKNOWN_METHOD, _INVALID_PARAMS, _INTERNAL = -32700, -32600, -32601, -32602, -32603
_SERVER_ERROR, _REVERTED = -32000, 3  # 3 is what geth answers, and what clients look for to decode custom errors

_log = logging.getLogger(__name__)


class Methods:
    """The methods over one ledger. `answer` takes and gives whole request bodies."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: CLIENT_VERSION,
            "web3_sha3": lambda data: hex_form(keccak(data_bytes(data))),
            "net_version": lambda: str(ledger.chain_id),
            "net_listening": lambda: True,
            "eth_chainId": lambda: hex(ledger.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": lambda: [],
            "eth_blockNumber": lambda: hex(ledger.present_head().block_number),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockTransactionCountByNumber": self._transaction_count_of_block,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
            "eth_getBalance": self._balance,
            "eth_getTransactionCount": self._nonce,
            "eth_getCode": self._code,
            "eth_getStorageAt": self._storage,
            "eth_call": lambda call, tag="latest": hex_form(ledger.call(call_of(call), self._state(tag))),
            "eth_estimateGas": lambda call, tag="latest": hex(ledger.estimate(call_of(call), self._state(tag))),
            "eth_gasPrice": lambda: hex(base_fee(ledger.head()) + PRIORITY_FEE_WEI),
            "eth_maxPriorityFeePerGas": lambda: hex(PRIORITY_FEE_WEI),
            "eth_feeHistory": self._fee_history,
            "eth_sendRawTransaction": lambda raw: hex_form(ledger.submit(data_bytes(raw))),
            "swarm_faucet": self._faucet,
        }

    def answer(self, body: bytes) -> bytes:
        """The answer to one request or a batch. A request without an id is carried out and gets no answer (b"")."""
        if body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
            return _encode(_error(None, _INVALID_REQUEST, f"a request has at most {MAX_BRACKETS} lists and objects"))
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return _encode(_error(None, _PARSE_ERROR, "the request is not JSON"))
        if not isinstance(request, list):
            answer = self._answer_one(request)
            return b"" if answer is None else _encode(answer)
        if not 1 <= len(request) <= MAX_BATCH:
            return _encode(_error(None, _INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} requests"))
        answers = [answer for answer in map(self._answer_one, request) if answer is not None]
        return _encode(answers) if answers else b""

    def _answer_one(self, request: object) -> dict[str, Any] | None:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(None, _INVALID_REQUEST, "a request is an object with a method")
        identifier = request.get("id")
        if not (identifier is None or isinstance(identifier, str | int | float)):
            return _error(None, _INVALID_REQUEST, "an id is a string, a number or null")
        answer = self._outcome(identifier, request["method"], request.get("params", []))
        return answer if "id" in request else None

    def _outcome(self, identifier: object, name: str, params: object) -> dict[str, Any]:
        method = self._methods.get(name)
        if method is None:
            return _error(identifier, _UNKNOWN_METHOD, f"the method {name[:80]} does not exist")
        if not isinstance(params, list):
            return _error(identifier, _INVALID_PARAMS, "params is a list")
        try:
            return {"jsonrpc": "2.0", "id": identifier, "result": method(*params)}
        except ExecutionReverted as error:
            return _error(identifier, _REVERTED, str(error), hex_form(error.data))
        except LedgerError as error:
            return _error(identifier, _SERVER_ERROR, str(error))
        except BadParams as error:
            return _error(identifier, _INVALID_PARAMS, str(error))
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # raised by our call: arity
                return _error(identifier, _INVALID_PARAMS, f"{name} does not take {len(params)} parameters")
            return self._bug(identifier, name)
        except Exception:  # noqa: BLE001 - one odd request must not stop the chain of everybody else
            return self._bug(identifier, name)

    @staticmethod
    def _bug(identifier: object, name: str) -> dict[str, Any]:
        _log.exception("%s failed", name)
        return _error(identifier, _INTERNAL, f"{name} failed inside the node; its log has the traceback")

    # blocks

    def _header(self, tag: object) -> Any:
        if tag in ("latest", "safe", "finalized", "pending"):
            return self._ledger.present_head()
        return self._ledger.header_at(0 if tag == "earliest" else quantity(tag))

    def _state(self, tag: object) -> Any:
        """The block after which to look at state. Looking at the newest state does not need a new block."""
        if tag in ("latest", "safe", "finalized", "pending"):
            return self._ledger.head()
        if isinstance(tag, dict):  # EIP-1898
            if "blockHash" in tag:
                header = self._ledger.header_of(data_bytes(tag["blockHash"], 32))
            else:
                header = self._header(tag.get("blockNumber"))
        else:
            header = self._header(tag)
        if header is None:
            raise LedgerError("header not found")
        return header

    def _block_by_number(self, tag: object, full: object = False) -> dict[str, Any] | None:
        header = self._header(tag)
        return None if header is None else block_form(header, self._ledger.mined_in(header), bool(full))

    def _block_by_hash(self, block_hash: object, full: object = False) -> dict[str, Any] | None:
        header = self._ledger.header_of(data_bytes(block_hash, 32))
        return None if header is None else block_form(header, self._ledger.mined_in(header), bool(full))

    def _transaction_count_of_block(self, tag: object) -> str | None:
        header = self._header(tag)
        return None if header is None else hex(int(self._ledger.mined_in(header) is not None))

    # state

    def _balance(self, account: object, tag: object = "latest") -> str:
        return hex(self._ledger.balance(account_bytes(account), self._state(tag)))

    def _nonce(self, account: object, tag: object = "latest") -> str:
        return hex(self._ledger.nonce(account_bytes(account), self._state(tag)))

    def _code(self, account: object, tag: object = "latest") -> str:
        return hex_form(self._ledger.code(account_bytes(account), self._state(tag)))

    def _storage(self, account: object, slot: object, tag: object = "latest") -> str:
        return word_form(self._ledger.storage(account_bytes(account), quantity(slot), self._state(tag)))

    # transactions and logs

    def _transaction(self, transaction_hash: object) -> dict[str, Any] | None:
        mined = self._ledger.mined(data_bytes(transaction_hash, 32))
        return None if mined is None else transaction_form(mined)

    def _receipt(self, transaction_hash: object) -> dict[str, Any] | None:
        mined = self._ledger.mined(data_bytes(transaction_hash, 32))
        return None if mined is None else receipt_form(mined)

    def _logs(self, query: object) -> list[dict[str, Any]]:
        if not isinstance(query, dict):
            raise BadParams("the filter is an object")
        if "blockHash" in query:
            header = self._ledger.header_of(data_bytes(query["blockHash"], 32))
            if header is None:
                raise LedgerError("unknown block")
            first = last = int(header.block_number)
        else:
            first = self._number(query.get("fromBlock", "latest"))
            last = self._number(query.get("toBlock", "latest"))
        accounts = options(query.get("address"), account_bytes)
        topics = query.get("topics") or []
        if not isinstance(topics, list) or len(topics) > 4:
            raise BadParams("topics is a list of at most 4")
        wanted = [options(topic, lambda value: data_bytes(value, 32)) for topic in topics]
        logs = []
        for count, mined in enumerate(self._ledger.mined_between(first, last)):
            if count == MAX_LOG_TRANSACTIONS:
                raise LedgerError(
                    f"the blocks have more than {MAX_LOG_TRANSACTIONS} transactions; ask for fewer blocks"
                )
            for index, log in enumerate(mined.receipt.logs):
                if matches(log, accounts, wanted):
                    logs.append(log_form(mined, index))
            if len(logs) > MAX_LOGS:
                raise LedgerError(f"the filter matches more than {MAX_LOGS} logs; ask for fewer blocks")
        return logs

    def _number(self, tag: object) -> int:
        head = self._ledger.head().block_number
        if tag in ("latest", "safe", "finalized", "pending"):
            return head
        return 0 if tag == "earliest" else min(quantity(tag), head)

    # fees and the faucet

    def _fee_history(self, count: object, newest: object = "latest", percentiles: object = None) -> dict[str, Any]:
        last = self._number(newest)
        first = max(0, last + 1 - min(quantity(count), MAX_FEE_HISTORY_BLOCKS))
        headers = [self._ledger.header_at(number) for number in range(first, last + 1)]
        fees = [base_fee(header) for header in headers if header is not None]
        history: dict[str, Any] = {
            "oldestBlock": hex(first),
            "baseFeePerGas": [
                hex(fee) for fee in [*fees, *fees[-1:]]
            ],  # the next block's fee is never above the last's
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers if header is not None],
        }
        if isinstance(percentiles, list):
            history["reward"] = [[hex(PRIORITY_FEE_WEI)] * min(len(percentiles), 100) for _ in fees]
        return history

    def _faucet(self, account: object) -> str | None:
        """Development only: 1 test ether for an account with less than 0.1; null for one that has enough."""
        granted = self._ledger.grant(account_bytes(account))
        return None if granted is None else hex_form(granted)


def _error(identifier: object, code: int, message: str, data: str | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": identifier, "error": error}


def _encode(answer: object) -> bytes:
    return json.dumps(answer).encode()
