"""The development chain itself: blocks, state and execution, over py-evm and one SQLite file.

This is the only module that knows py-evm (archived upstream since September 2025). It promises: a transaction is mined
at once, in a block of its own; block times never fall, and run ahead of the wall clock only if that was set back; block
hashes cannot be known before the block; a killed process loses no transaction that it has acknowledged.
"""

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coincurve import PrivateKey
from eth.abc import BlockHeaderAPI, ReceiptAPI, SignedTransactionAPI
from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.exceptions import HeaderNotFound, Revert, TransactionNotFound, VMError
from eth.vm.forks.prague import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey as SigningKey
from eth_utils.address import to_canonical_address
from eth_utils.exceptions import ValidationError

from swarm.chain.store import SqliteStore

GAS_LIMIT = 30_000_000
CALL_GAS_LIMIT = 10_000_000  # about 10 s of work here: one call must not stop the others for long
PRIORITY_FEE_WEI = 1_000_000
FAUCET_GRANT_WEI = 10**18
FAUCET_BELOW_WEI = 10**17

_FAUCET_SUPPLY_WEI = 10**27
_BASE_FEE_WEI = 10**9
_ESTIMATE_TOLERANCE_GAS = 500
_CHAIN_ID = b"swarm:chain-id"
_FAUCET_SECRET = b"swarm:faucet-secret"
_WITH_TRANSACTION = b"swarm:with-transaction:"  # + block number, 8 bytes: the blocks that are not empty


class LedgerError(Exception):
    """A request that the chain refuses; the message is what other nodes say in this case."""


class ExecutionReverted(LedgerError):
    """A call or an estimate that reverted; `data` is what the contract returned."""

    def __init__(self, data: bytes) -> None:
        super().__init__("execution reverted")
        self.data = data


@dataclass(frozen=True)
class Call:
    """A transaction that is only tried; nothing of it stays."""

    sender: bytes
    to: bytes
    data: bytes
    value: int
    gas: int = CALL_GAS_LIMIT


@dataclass(frozen=True)
class Mined:
    """A transaction with its receipt and the header of its block, where it is the only one."""

    header: BlockHeaderAPI
    transaction: SignedTransactionAPI
    receipt: ReceiptAPI


class _DevelopmentVM(PragueVM):
    """Prague, with block times that may be equal, a constant gas limit and an unpredictable block hash."""

    @staticmethod
    def create_header_from_parent(parent_header: BlockHeaderAPI | None, **params: Any) -> BlockHeaderAPI:  # type: ignore[override]
        if parent_header is not None:
            params.setdefault("gas_limit", parent_header.gas_limit)
            params.setdefault("timestamp", max(parent_header.timestamp, int(time.time())))
            params.setdefault("mix_hash", os.urandom(32))
        return PragueVM.create_header_from_parent(parent_header, **params)

    @classmethod
    def validate_header(cls, header: BlockHeaderAPI, parent_header: BlockHeaderAPI) -> None:
        if header.timestamp < parent_header.timestamp:
            raise ValidationError(f"block time {header.timestamp} is before its parent's, {parent_header.timestamp}")
        if header.timestamp == parent_header.timestamp:  # py-evm wants a later time: show it one
            header = header.copy(timestamp=parent_header.timestamp + 1)
        super().validate_header(header, parent_header)


class Ledger:
    """The chain in one file, for one thread at a time. A new file starts a chain with an id of its own.

    Raises:
        sqlite3.DatabaseError: the file is no such chain.
    """

    def __init__(self, path: Path) -> None:
        self._store = SqliteStore(path)
        database = AtomicDB(self._store)  # type: ignore[arg-type]
        fresh = _CHAIN_ID not in self._store
        if fresh:
            with self._store.atomic():
                # Above every id in the public lists and below 2^53, which JavaScript wallets can still hold.
                self._store[_CHAIN_ID] = (2**44 + secrets.randbelow(2**52)).to_bytes(8, "big")
                self._store[_FAUCET_SECRET] = PrivateKey().secret
                self._class().from_genesis(database, self._genesis(), self._genesis_state())
        self._chain: Any = self._class()(database)  # py-evm's own types want NewTypes of bytes and int everywhere

    def _class(self) -> Any:
        return MiningChain.configure(
            __name__="DevelopmentChain", vm_configuration=((0, _DevelopmentVM),), chain_id=self.chain_id
        )

    @staticmethod
    def _genesis() -> dict[str, Any]:
        return {"gas_limit": GAS_LIMIT, "base_fee_per_gas": _BASE_FEE_WEI, "timestamp": int(time.time())}

    def _genesis_state(self) -> dict[bytes, dict[str, Any]]:
        return {self._faucet_account: {"balance": _FAUCET_SUPPLY_WEI, "nonce": 0, "code": b"", "storage": {}}}

    @property
    def chain_id(self) -> int:
        """The id of this chain, drawn when it was made."""
        return int.from_bytes(self._store[_CHAIN_ID], "big")

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    # blocks

    def head(self) -> BlockHeaderAPI:
        """The newest block that exists, whatever its age."""
        return self._chain.get_canonical_head()

    def present_head(self) -> BlockHeaderAPI:
        """The newest block, after mining an empty one if the wall clock has passed its second.

        So the first block at or after T exists for every T that has passed, without a block per second on disk.
        """
        if int(time.time()) > self.head().timestamp:
            self._mine()
        return self.head()

    def header_at(self, number: int) -> BlockHeaderAPI | None:
        """The header of block `number`, None past the head."""
        if not 0 <= number <= self.head().block_number:
            return None
        return self._chain.get_canonical_block_header_by_number(number)

    def header_of(self, block_hash: bytes) -> BlockHeaderAPI | None:
        """The header with this hash, None where there is none."""
        try:
            return self._chain.get_block_header_by_hash(block_hash)
        except HeaderNotFound:
            return None

    def mined_in(self, header: BlockHeaderAPI) -> Mined | None:
        """The transaction of a block, None for an empty block."""
        if _with_transaction(header.block_number) not in self._store:
            return None
        receipt = self._chain.get_transaction_receipt_by_index(header.block_number, 0)
        return Mined(header, self._chain.get_canonical_transaction_by_index(header.block_number, 0), receipt)

    def mined(self, transaction_hash: bytes) -> Mined | None:
        """The transaction with this hash, None where there is none."""
        try:
            number, _ = self._chain.get_canonical_transaction_index(transaction_hash)
        except TransactionNotFound:
            return None
        return self.mined_in(self._chain.get_canonical_block_header_by_number(number))

    def mined_between(self, first: int, last: int) -> Iterator[Mined]:
        """The transactions of the blocks `first` to `last`, in order. Empty blocks cost nothing."""
        for key in list(self._store.between(_with_transaction(first), _with_transaction(last))):
            number = int.from_bytes(key[len(_WITH_TRANSACTION) :], "big")
            found = self.mined_in(self._chain.get_canonical_block_header_by_number(number))
            if found is not None:
                yield found

    # state

    def balance(self, account: bytes, at: BlockHeaderAPI) -> int:
        """In wei, after block `at`."""
        return self._chain.get_vm(at).state.get_balance(account)

    def nonce(self, account: bytes, at: BlockHeaderAPI) -> int:
        """The number of transactions the account has sent, after block `at`."""
        return self._chain.get_vm(at).state.get_nonce(account)

    def code(self, account: bytes, at: BlockHeaderAPI) -> bytes:
        """The contract code of the account, empty for a plain one."""
        return self._chain.get_vm(at).state.get_code(account)

    def storage(self, account: bytes, slot: int, at: BlockHeaderAPI) -> int:
        """One storage word of a contract."""
        return self._chain.get_vm(at).state.get_storage(account, slot)

    def call(self, call: Call, at: BlockHeaderAPI) -> bytes:
        """What the call returns in a block on top of `at`.

        Raises:
            ExecutionReverted: the contract reverted.
            LedgerError: it cannot run, as when the value is not there.
        """
        return self._try(call, at)

    def estimate(self, call: Call, at: BlockHeaderAPI) -> int:
        """Gas with which the call succeeds on top of `at`, at most 500 above the least such amount.

        Raises:
            ExecutionReverted, LedgerError: it does not succeed with any amount.
        """
        self._try(call, at)
        too_little, enough = 20_999, call.gas
        while enough - too_little > _ESTIMATE_TOLERANCE_GAS:
            # Guess low first: most calls need far less than the limit, and a failed small run is cheap.
            middle = min((too_little + enough) // 2, too_little * 2)
            try:
                self._try(Call(call.sender, call.to, call.data, call.value, middle), at)
                enough = middle
            except LedgerError:
                too_little = middle
        return enough

    def _try(self, call: Call, at: BlockHeaderAPI) -> bytes:
        try:
            with self._chain.get_vm(at).in_costless_state() as state:
                unsigned = self._chain.create_unsigned_transaction(
                    nonce=state.get_nonce(call.sender),
                    gas_price=0,
                    gas=call.gas,
                    to=call.to,
                    value=call.value,
                    data=call.data,
                )
                transaction = SpoofTransaction(unsigned, from_=call.sender)
                computation = state.costless_execute_transaction(transaction)
        except ValidationError as error:
            raise _refusal(error) from error
        if computation.is_success:
            return computation.output
        if isinstance(computation.error, Revert):
            raise ExecutionReverted(computation.output)
        raise LedgerError(f"execution failed: {type(computation.error).__name__}")

    # transactions

    def submit(self, raw: bytes) -> bytes:
        """Mine a signed transaction and give its hash. One that reverts is mined too, with status 0.

        Raises:
            LedgerError: it is malformed, for another chain, out of turn or cannot be paid.
        """
        try:
            transaction = self._chain.get_vm().get_transaction_builder().decode(raw)
            transaction.check_signature_validity()
            sender = transaction.sender
        # py-evm, rlp and eth-keys each raise errors of their own here, with no common base, for bytes anyone may send
        except Exception as error:
            raise LedgerError(f"invalid transaction: {error}") from error
        if self.mined(transaction.hash) is not None:
            raise LedgerError("already known")
        if transaction.chain_id not in (None, self.chain_id):
            raise LedgerError(f"invalid chain id: have {transaction.chain_id}, want {self.chain_id}")
        expected = self.nonce(sender, self.head())
        if transaction.nonce < expected:
            raise LedgerError(f"nonce too low: next nonce {expected}, transaction nonce {transaction.nonce}")
        if transaction.nonce > expected:  # there is no pool in which it could wait
            raise LedgerError(f"nonce too high: next nonce {expected}, transaction nonce {transaction.nonce}")
        self._mine(transaction)
        return transaction.hash

    def grant(self, account: bytes) -> bytes | None:
        """Give 1 ether to an account that has less than 0.1 ether; the transaction's hash, or None for a richer one."""
        head = self.head()
        if self.balance(account, head) >= FAUCET_BELOW_WEI:
            return None
        unsigned = self._chain.create_unsigned_transaction(
            nonce=self.nonce(self._faucet_account, head),
            gas_price=2 * base_fee(head) + PRIORITY_FEE_WEI,
            gas=200_000,  # the account may be a contract that does something on receipt
            to=account,
            value=FAUCET_GRANT_WEI,
            data=b"",
        )
        signed = unsigned.as_signed_transaction(SigningKey(self._store[_FAUCET_SECRET]), chain_id=self.chain_id)
        self._mine(signed)
        return signed.hash

    @property
    def _faucet_account(self) -> bytes:
        point = PrivateKey(self._store[_FAUCET_SECRET]).public_key.format(compressed=False)[1:]
        return to_canonical_address(keccak(point)[-20:])

    def _mine(self, *transactions: SignedTransactionAPI) -> None:
        self._chain.header = self._chain.create_header_from_parent(self.head())
        try:
            with self._store.atomic():
                self._chain.mine_all(transactions)
                if transactions:
                    self._store[_with_transaction(self.head().block_number)] = b""
        except (ValidationError, VMError) as error:
            raise _refusal(error) from error


def base_fee(header: BlockHeaderAPI) -> int:
    """In wei per gas."""
    return header.base_fee_per_gas or 0


def _with_transaction(number: int) -> bytes:
    return _WITH_TRANSACTION + number.to_bytes(8, "big")


def _refusal(error: Exception) -> LedgerError:
    text = str(error)
    if "can't afford" in text or "cannot afford" in text or "does not have enough" in text:
        return LedgerError(f"insufficient funds for gas * price + value: {text}")
    return LedgerError(text)
