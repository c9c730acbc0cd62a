"""What a command did, told to a person as it happens or to a program as one JSON object at the end."""

import json
import time
from typing import Any

from swarm.chain.abi import described
from swarm.chain.client import Chain, Receipt, Signer, Transaction
from swarm.chain.registry import estimate, send

_WEI_PER_ETHER = 10**18
_TIMES = ("deadline", "genesis")
"""Arguments in unix seconds."""


class Session:
    """The transactions of one command. A dry run asks the chain about them and sends none."""

    def __init__(self, *, dry_run: bool, as_json: bool) -> None:
        self.dry_run = dry_run
        self._as_json = as_json
        self._transactions: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._facts: dict[str, Any] = {}

    def perform(self, chain: Chain, signer: Signer, transaction: Transaction) -> Receipt | None:
        """Print a transaction with what it may cost, then send it; None in a dry run.

        Raises:
            SwarmError: the contract would refuse it, the account cannot pay, or the chain gives no answer.
        """
        function, arguments = described(transaction.data)
        gas, cost = estimate(chain, signer.address, transaction)
        told: dict[str, Any] = {
            "chain_id": chain.chain_id,
            "from": signer.address,
            "to": transaction.to,
            "function": function,
            "arguments": _plain(arguments),
            "value_wei": transaction.value,
            "gas_at_most": gas,
            "cost_at_most_wei": cost,
        }
        self._transactions.append(told)
        self._say(f"transaction on chain {chain.chain_id}")
        self._say(f"  from      {signer.address}, which has {_ether(chain.balance(signer.address))} ether")
        self._say(f"  to        {transaction.to or 'a new contract'}")
        self._say(f"  function  {function}")
        for name, value in _lines(arguments):
            self._say(f"    {name:<16} {value}")
        self._say(f"  value     {_ether(transaction.value)} ether")
        self._say(f"  gas       at most {gas}, which is {_ether(cost)} ether")
        if self.dry_run:
            return None
        receipt = send(chain, signer, transaction)
        told |= {
            "transaction_hash": "0x" + receipt.transaction_hash.hex(),
            "block": receipt.block_number,
            "gas_used": receipt.gas_used,
            "cost_wei": receipt.cost,
        }
        self._say(f"mined in block {receipt.block_number} as {told['transaction_hash']}")
        self._say(f"  gas       {receipt.gas_used}, which cost {_ether(receipt.cost)} ether")
        return receipt

    def note(self, sentence: str, **facts: Any) -> None:
        """Say what is so now, in words and in values."""
        self._notes.append(sentence)
        self._facts |= _plain(facts)
        self._say(sentence)

    def end(self, error: str | None = None) -> None:
        """Say that a dry run changed nothing; or the one JSON object, also of what went before an error."""
        if self.dry_run and error is None:
            self._say("dry run: nothing was sent")
        if self._as_json:
            told = {
                "dry_run": self.dry_run,
                "transactions": self._transactions,
                "notes": self._notes,
                **self._facts,
                **({} if error is None else {"error": error}),
            }
            print(json.dumps(told))

    def _say(self, line: str) -> None:
        if not self._as_json:
            print(line, flush=True)


def _plain(value: Any) -> Any:
    """The value as JSON has it; bytes are written in hex."""
    match value:
        case bytes():
            return "0x" + value.hex()
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def _lines(arguments: dict[str, Any]) -> list[tuple[str, str]]:
    """The arguments for people; those of a struct stand for themselves."""
    lines = []
    for name, value in arguments.items():
        match value:
            case dict():
                lines += _lines(value)
            case bytes():
                lines.append((name, "0x" + value.hex() if value else "none"))
            case list() | tuple():
                texts = [each for each in value if isinstance(each, str)]
                lines.append((name, " ".join(texts) if texts else f"list of {len(value)}" if value else "none"))
            case int() if name in _TIMES:
                lines.append((name, f"{value} ({_utc(value)})"))
            case _:
                lines.append((name, str(value)))
    return lines


def _utc(unix_s: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))
    except (OverflowError, OSError, ValueError):
        return "beyond all calendars"


def _ether(wei: int) -> str:
    return f"{wei / _WEI_PER_ETHER:.6g}"
