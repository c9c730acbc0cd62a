"""Ethereum's JSON forms: what JSON-RPC parameters mean, and how blocks, receipts and logs are written.

Parameters are strict: whatever is not exactly of its form raises BadParams with a message for the caller.
"""

from collections.abc import Callable
from typing import Any

import rlp
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from swarm.chain.ledger import CALL_GAS_LIMIT, Call, Mined, base_fee


class BadParams(Exception):
    """The parameters do not fit the method; the message says which."""


def quantity(value: object) -> int:
    """A number: 0x-hex as the standard wants it, or a plain JSON integer, of at most 256 bits."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**256:
        return value
    if isinstance(value, str) and value.startswith("0x") and len(value) <= 66:
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise BadParams(f"not a number or block tag: {str(value)[:80]!r}")


def data_bytes(value: object, length: int | None = None) -> bytes:
    """0x-hex data, of `length` bytes if that is given."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            data = bytes.fromhex(value[2:])
        except ValueError:
            data = None
        if data is not None and length in (None, len(data)):
            return data
    kind = "hex data" if length is None else f"{length} bytes in hex"
    raise BadParams(f"not {kind}: {str(value)[:80]!r}")


def account_bytes(value: object) -> bytes:
    """An address; its checksum is not looked at."""
    return data_bytes(value, 20)


def call_of(value: object) -> Call:
    """The call object of eth_call and eth_estimateGas; fees in it are ignored, as calls are free."""
    if not isinstance(value, dict):
        raise BadParams("the call is an object")
    data = value.get("input", value.get("data")) or "0x"
    to = value.get("to")
    gas = value.get("gas")
    return Call(
        sender=account_bytes(value.get("from") or "0x" + "00" * 20),
        to=account_bytes(to) if to else b"",
        data=data_bytes(data),
        value=quantity(value.get("value") or 0),
        gas=CALL_GAS_LIMIT if gas is None else min(quantity(gas), CALL_GAS_LIMIT),
    )


def options(value: object, parse: Callable[[object], bytes]) -> set[bytes] | None:
    """The accepted values of one part of a log filter; None accepts all."""
    if value is None or value == []:
        return None
    return {parse(item) for item in (value if isinstance(value, list) else [value])}


def matches(log: Any, accounts: set[bytes] | None, wanted: list[set[bytes] | None]) -> bool:
    """Whether a log passes a filter; `wanted` holds the accepted topics by position."""
    if accounts is not None and log.address not in accounts:
        return False
    topics = [topic.to_bytes(32, "big") for topic in log.topics]
    if len(topics) < len(wanted):
        return False
    return all(options is None or topic in options for topic, options in zip(topics, wanted, strict=False))


def block_form(header: Any, mined: Mined | None, full: bool) -> dict[str, Any]:
    """A block, with its whole transaction if `full`, else with its hash."""
    transactions: list[Any] = []
    if mined is not None:
        transactions = [transaction_form(mined) if full else hex_form(mined.transaction.hash)]
    return {
        "number": hex(header.block_number),
        "hash": hex_form(header.hash),
        "parentHash": hex_form(header.parent_hash),
        "timestamp": hex(header.timestamp),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "transactions": transactions,
        "transactionsRoot": hex_form(header.transaction_root),
        "receiptsRoot": hex_form(header.receipt_root),
        "stateRoot": hex_form(header.state_root),
        "logsBloom": hex_form(header.bloom.to_bytes(256, "big")),
        "miner": to_checksum_address(header.coinbase),
        "mixHash": hex_form(header.mix_hash),
        "nonce": hex_form(header.nonce),
        "extraData": hex_form(header.extra_data),
        "difficulty": hex(header.difficulty),
        "sha3Uncles": hex_form(header.uncles_hash),
        "uncles": [],
        "withdrawals": [],
        "withdrawalsRoot": hex_form(header.withdrawals_root),
        "blobGasUsed": hex(header.blob_gas_used),
        "excessBlobGas": hex(header.excess_blob_gas),
        "parentBeaconBlockRoot": hex_form(header.parent_beacon_block_root),
        "requestsHash": hex_form(header.requests_hash),
        "size": hex(0),
    }


def transaction_form(mined: Mined) -> dict[str, Any]:
    """A mined transaction."""
    transaction, header = mined.transaction, mined.header
    result: dict[str, Any] = {
        "hash": hex_form(transaction.hash),
        "nonce": hex(transaction.nonce),
        "blockHash": hex_form(header.hash),
        "blockNumber": hex(header.block_number),
        "transactionIndex": hex(0),
        "from": to_checksum_address(transaction.sender),
        "to": to_checksum_address(transaction.to) if transaction.to else None,
        "value": hex(transaction.value),
        "gas": hex(transaction.gas),
        "gasPrice": hex(_gas_price(mined)),
        "input": hex_form(transaction.data),
        "type": hex(transaction.type_id or 0),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
    }
    if transaction.type_id is None:
        result["v"] = hex(transaction.v)  # type: ignore[attr-defined]
    else:
        result["v"] = result["yParity"] = hex(transaction.y_parity)
        result["accessList"] = [
            {"address": to_checksum_address(account), "storageKeys": [word_form(key) for key in keys]}
            for account, keys in transaction.access_list
        ]
    if (transaction.type_id or 0) >= 2:
        result["maxFeePerGas"] = hex(transaction.max_fee_per_gas)
        result["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_per_gas)
    if transaction.chain_id is not None:
        result["chainId"] = hex(transaction.chain_id)
    return result


def receipt_form(mined: Mined) -> dict[str, Any]:
    """What became of a transaction."""
    transaction, header, receipt = mined.transaction, mined.header, mined.receipt
    created = None
    if not transaction.to:
        created = _created_address(transaction.sender, transaction.nonce)
    return {
        "transactionHash": hex_form(transaction.hash),
        "transactionIndex": hex(0),
        "blockHash": hex_form(header.hash),
        "blockNumber": hex(header.block_number),
        "from": to_checksum_address(transaction.sender),
        "to": to_checksum_address(transaction.to) if transaction.to else None,
        "contractAddress": created,
        "status": hex(int(receipt.state_root == b"\x01")),
        "gasUsed": hex(receipt.gas_used),
        "cumulativeGasUsed": hex(receipt.gas_used),
        "effectiveGasPrice": hex(_gas_price(mined)),
        "logs": [log_form(mined, index) for index in range(len(receipt.logs))],
        "logsBloom": hex_form(receipt.bloom.to_bytes(256, "big")),
        "type": hex(transaction.type_id or 0),
    }


def log_form(mined: Mined, index: int) -> dict[str, Any]:
    """The log at `index` of a transaction."""
    log = mined.receipt.logs[index]
    return {
        "address": to_checksum_address(log.address),
        "topics": [word_form(topic) for topic in log.topics],
        "data": hex_form(log.data),
        "blockNumber": hex(mined.header.block_number),
        "blockHash": hex_form(mined.header.hash),
        "blockTimestamp": hex(mined.header.timestamp),
        "transactionHash": hex_form(mined.transaction.hash),
        "transactionIndex": hex(0),
        "logIndex": hex(index),
        "removed": False,
    }


def _created_address(sender: bytes, nonce: int) -> str:
    return to_checksum_address(keccak(rlp.encode([sender, nonce]))[-20:])


def _gas_price(mined: Mined) -> int:
    transaction = mined.transaction
    return min(transaction.max_fee_per_gas, base_fee(mined.header) + transaction.max_priority_fee_per_gas)


def hex_form(data: bytes) -> str:
    """Data as 0x-hex."""
    return "0x" + data.hex()


def word_form(value: int) -> str:
    """A number as 32 bytes of 0x-hex."""
    return hex_form(value.to_bytes(32, "big"))
