"""JSON-RPC over HTTP with a deadline for every call, whatever the other side does or fails to do."""

import itertools
import json
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import urllib3

from swarm.errors import SwarmError

MAX_ANSWER_BYTES = 32 << 20
MAX_BATCH = 100  # what public nodes commonly take at once
UNKNOWN_METHOD = -32601

Request = tuple[str, Sequence[Any]]
"""A method and its parameters."""

_TOO_MANY_REQUESTS = 429
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


class ChainUnavailable(SwarmError):
    """The chain's RPC gave no usable answer in time. Trying later, or another url, may help."""


class RpcError(Exception):
    """The node understood the request and refused it. `data` is what a reverting contract returned, else empty."""

    def __init__(self, code: int, message: str, data: bytes) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Rpc:
    """Calls to one url, from any thread. `timeout_s` is the deadline of a whole call, from name lookup to last byte."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SwarmError(f"the chain's address {url!r} is not an http or https url")
        self.url = url
        # An RPC url often carries a secret in its path or query: messages name the host only.
        self.host = parts.netloc.rpartition("@")[2]
        self._timeout_s = timeout_s
        self._pool = urllib3.PoolManager(maxsize=8, retries=False)
        self._ids = itertools.count(1)
        self._takes_batches = True

    def call(self, method: str, *params: Any) -> Any:
        """The result of one method.

        Raises:
            ChainUnavailable: no answer in time, or none that is JSON-RPC.
            RpcError: the node refused the request.
        """
        request = self._request(method, params)
        status, answer = self._exchange(request, method)
        return self._result(request, answer, status)

    def batch(self, requests: Sequence[Request]) -> list[Any]:
        """The results in the order of the requests, in one HTTP request if the node takes batches, else one by one.

        In place of a result that the node refuses is its RpcError.

        Raises:
            ChainUnavailable: no answer in time, none that is JSON-RPC, or one that leaves requests out.
        """
        results: list[Any] = []
        for first in range(0, len(requests), MAX_BATCH):
            chunk = requests[first : first + MAX_BATCH]
            results += (self._batched(chunk) if self._takes_batches and len(chunk) > 1 else None) or [
                self._outcome(method, params) for method, params in chunk
            ]
        return results

    def _outcome(self, method: str, params: Sequence[Any]) -> Any:
        try:
            return self.call(method, *params)
        except RpcError as error:
            return error

    def _batched(self, requests: Sequence[Request]) -> list[Any] | None:
        """The results of one batch; None if the node takes none, which is remembered."""
        sent = [self._request(method, params) for method, params in requests]
        status, answers = self._exchange(sent, "a batch")
        if not isinstance(answers, list):
            self._takes_batches = False
            return None
        by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        results: list[Any] = []
        for request in sent:
            if request["id"] not in by_id:
                raise self._unavailable(f"left out {request['method']} in its answer to a batch")
            try:
                results.append(self._result(request, by_id[request["id"]], status))
            except RpcError as error:
                results.append(error)
        return results

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    def _exchange(self, request: object, what: str) -> tuple[int, Any]:
        status, body = self._within_deadline(json.dumps(request).encode())
        try:
            return status, json.loads(body)
        except (ValueError, RecursionError):
            if isinstance(request, list) and 400 <= status < 500 and status != _TOO_MANY_REQUESTS:
                return status, None  # batches are refused before anything reads them
            raise self._unavailable(f"answered {what} with what is not JSON (HTTP status {status})") from None

    def _result(self, request: dict[str, Any], answer: Any, status: int) -> Any:
        method = request["method"]
        if not isinstance(answer, dict) or ("result" not in answer and not isinstance(answer.get("error"), dict)):
            raise self._unavailable(f"answered {method} with JSON that is not JSON-RPC (HTTP status {status})")
        error = answer.get("error")
        if isinstance(error, dict):
            raise RpcError(_code(error.get("code")), _printable(error.get("message")), _data(error))
        if answer.get("id") != request["id"]:
            raise self._unavailable(f"answered {method} with the answer to another request")
        return answer["result"]

    def _unavailable(self, what: str) -> ChainUnavailable:
        return ChainUnavailable(f"the chain at {self.host} {what}; check the RPC url and that its node runs")

    def _within_deadline(self, body: bytes) -> tuple[int, bytes]:
        # Socket timeouts bound one read, not a trickle of reads, and name lookup has none. Hence a thread that is
        # left behind at the deadline; its own timeouts end it soon after.
        outcome: list[tuple[int, bytes] | Exception] = []

        def work() -> None:
            try:
                try:
                    outcome.append(self._post(body))
                except urllib3.exceptions.ProtocolError:
                    # A kept connection that the node closed this moment; every request here may be sent twice.
                    outcome.append(self._post(body))
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                outcome.append(error)

        thread = threading.Thread(target=work, name="chain-rpc", daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if not outcome:
            raise self._unavailable(f"did not answer within {self._timeout_s:g} s")
        if isinstance(outcome[0], Exception):
            if _is_timeout(outcome[0]):
                raise self._unavailable(f"did not answer within {self._timeout_s:g} s") from outcome[0]
            raise self._unavailable(f"cannot be reached ({_cause(outcome[0])})") from outcome[0]
        return outcome[0]

    def _post(self, body: bytes) -> tuple[int, bytes]:
        deadline = time.monotonic() + self._timeout_s
        response = self._pool.request(
            "POST",
            self.url,
            body=body,
            headers=_HEADERS,
            timeout=urllib3.Timeout(total=self._timeout_s),
            preload_content=False,
            redirect=False,
        )
        try:
            answer = bytearray()
            while chunk := response.read1(1 << 16):
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise ValueError(f"its answer has more than {MAX_ANSWER_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return response.status, bytes(answer)


def _printable(message: object) -> str:
    """What a foreign node says, fit for a terminal and a log line."""
    return "".join(character if character.isprintable() else " " for character in str(message)[:300])


def _code(value: object) -> int:
    return value if isinstance(value, int) else 0


def _data(error: dict[str, Any]) -> bytes:
    """The revert data, which nodes put in `data` or one level below it."""
    data = error.get("data")
    if isinstance(data, dict):
        data = data.get("data")
    if isinstance(data, str) and data.startswith("0x"):
        try:
            return bytes.fromhex(data[2:])
        except ValueError:
            return b""
    return b""


def _is_timeout(error: Exception) -> bool:
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # a refused connection; a timeout by inheritance only
        return False
    return isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError)


def _cause(error: Exception) -> str:
    """The innermost reason in a few words: urllib3 wraps the operating system's error several times."""
    inner: BaseException = error
    while inner.__cause__ is not None or inner.__context__ is not None:
        inner = inner.__cause__ or inner.__context__ or inner
    text = (inner.strerror if isinstance(inner, OSError) else None) or str(inner) or type(inner).__name__
    return text[:200].rstrip(".").lower() if isinstance(inner, OSError) else text[:200].rstrip(".")
