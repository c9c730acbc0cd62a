"""The registry's interface in bytes: calls, results and custom errors, from the artifact that contracts/ builds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

_ERROR_STRING = keccak(b"Error(string)")[:4]


@dataclass(frozen=True)
class Artifact:
    """What the compiler made of a contract."""

    abi: list[dict[str, Any]]
    bytecode: bytes
    source_sha256: str


@cache
def artifact(name: str = "SwarmRegistry") -> Artifact:
    """The compiled contract that is shipped with this package."""
    raw = json.loads((files("swarm.chain") / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))
    return Artifact(raw["abi"], bytes.fromhex(raw["bytecode"].removeprefix("0x")), raw["sourceSha256"])


def creation_code(*arguments: Any) -> bytes:
    """The data of the transaction that deploys the contract."""
    return artifact().bytecode + encode(_types(_entry("constructor")["inputs"]), arguments)


def call_data(function: str, *arguments: Any) -> bytes:
    """The data of a call."""
    entry = _entry("function", function)
    return _selector(entry) + encode(_types(entry["inputs"]), arguments)


def results(function: str, data: bytes) -> tuple[Any, ...]:
    """What a call returned.

    Raises:
        ValueError: the bytes are not of the function's result types; the contract is another one.
    """
    try:
        return decode(_types(_entry("function", function)["outputs"]), data)
    except (DecodingError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"not a result of {function}: {error}") from error


def described(data: bytes) -> tuple[str, dict[str, Any]]:
    """What the data of a transaction says: the function, or "constructor", and its arguments by their names."""
    if data.startswith(artifact().bytecode):
        entry, encoded = _entry("constructor"), data[len(artifact().bytecode) :]
    else:
        entry = next(each for each in artifact().abi if each["type"] == "function" and _selector(each) == data[:4])
        encoded = data[4:]
    return entry.get("name", "constructor"), _named(entry["inputs"], decode(_types(entry["inputs"]), encoded))


def error_of(data: bytes) -> tuple[str, tuple[Any, ...]]:
    """Name and arguments of the custom error in revert data; ("", ()) for one that is not the contract's."""
    for entry in artifact().abi:
        if entry["type"] == "error" and _selector(entry) == data[:4]:
            try:
                return entry["name"], decode(_types(entry["inputs"]), data[4:])
            except (DecodingError, OverflowError):
                break
    return "", ()


def error_text(data: bytes) -> str:
    """The reason of a plain `revert("...")` or `require`; else the data in hex."""
    if data[:4] == _ERROR_STRING:
        try:
            return str(decode(["string"], data[4:])[0])
        except (DecodingError, OverflowError, UnicodeDecodeError):
            pass
    return f"0x{data.hex()}" if data else "no reason given"


def _entry(kind: str, name: str | None = None) -> dict[str, Any]:
    return next(entry for entry in artifact().abi if entry["type"] == kind and entry.get("name") == name)


def _selector(entry: dict[str, Any]) -> bytes:
    return keccak(text=f"{entry['name']}({','.join(_types(entry['inputs']))})")[:4]


def _named(parameters: list[dict[str, Any]], values: Sequence[Any]) -> dict[str, Any]:
    return {each["name"]: _value(each, value) for each, value in zip(parameters, values, strict=True)}


def _value(parameter: dict[str, Any], value: Any) -> Any:
    match parameter["type"]:
        case "address":
            return to_checksum_address(value)
        case "tuple":
            return _named(parameter["components"], value)
        case "tuple[]":
            return [_named(parameter["components"], each) for each in value]
        case _:
            return value


def _types(parameters: list[dict[str, Any]]) -> list[str]:
    return [_type(parameter) for parameter in parameters]


def _type(parameter: dict[str, Any]) -> str:
    if not parameter["type"].startswith("tuple"):
        return parameter["type"]
    return f"({','.join(_types(parameter['components']))}){parameter['type'].removeprefix('tuple')}"
