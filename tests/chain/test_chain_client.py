"""The client against the real node, and against servers that misbehave."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import pytest

from swarm.chain.client import Chain, ChainUnavailable, InsufficientFunds, Transaction
from swarm.errors import SwarmError

DEADLINE_S = 0.5
PAGE = b"<html>Bad gateway</html>"
HALF = b'{"jsonrpc": "2.0", "id": 1, "res'


def response(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body) if length is None else length}"
    return head.encode() + b"\r\n\r\n" + body


@contextmanager
def server(*chunks: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A server that reads a request, sends the chunks with pauses between them, and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            try:
                for chunk in chunks:
                    connection.sendall(chunk)
                    time.sleep(pause_s)
            except OSError:
                pass  # the client has gone, as it should

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def sentence(url: str) -> str:
    """What the client says about this url, within its deadline."""
    started = time.monotonic()
    with pytest.raises(ChainUnavailable) as caught:
        Chain(url, timeout_s=DEADLINE_S).head()
    assert time.monotonic() - started < DEADLINE_S + 0.5
    text = str(caught.value)
    assert "\n" not in text and text.startswith("the chain at 127.0.0.1:")
    return text


def test_a_dead_rpc():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "cannot be reached (connection refused)" in sentence(f"http://127.0.0.1:{port}")


def test_html_instead_of_json():
    with server(response(PAGE, "502 Bad Gateway")) as url:
        assert "what is not JSON (HTTP status 502)" in sentence(url)


def test_json_that_is_no_answer():
    for body in (b"[]", b"{}", b"null", b'{"id": 1, "error": "no"}', b'{"id": 1, "error": null}'):
        with server(response(body)) as url:
            assert "JSON that is not JSON-RPC" in sentence(url)
    for result in (b"null", b"17", b'"zz"', b"[]", b'""'):
        with server(response(b'{"jsonrpc": "2.0", "id": 1, "result": ' + result + b"}")) as url:
            assert "an answer in no known form" in sentence(url)
    with server(response(b'{"jsonrpc": "2.0", "id": 77, "result": "0x1"}')) as url:
        assert "the answer to another request" in sentence(url)


def test_half_an_answer():
    with server(response(HALF)) as url:
        assert "not JSON" in sentence(url)
    with server(response(HALF, length=500)) as url:
        assert "cannot be reached" in sentence(url)
    with server(b"") as url:
        assert "cannot be reached" in sentence(url)


def test_silence_and_a_trickle_end_at_the_deadline():
    with server(b"", pause_s=3) as url:
        assert "did not answer within 0.5 s" in sentence(url)
    with server(*[b"H"] * 40, pause_s=0.1) as url:
        assert "did not answer within 0.5 s" in sentence(url)
    body = response(HALF, length=10_000)
    with server(body, *[b" "] * 40, pause_s=0.1) as url:
        assert "did not answer within 0.5 s" in sentence(url)


def test_what_a_node_says_is_printable():
    message = b"\\u001b[31mred\\nline"
    body = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "' + message + b'"}}'
    with server(response(body)) as url, pytest.raises(SwarmError, match=r" \[31mred line$"):
        Chain(url).head()


def test_the_wrong_chain(node):
    with pytest.raises(SwarmError, match=f"has the id {node.chain_id}, but this swarm lives on chain 1"):
        Chain(node.url, expected_chain_id=1).head()


def test_what_is_no_url():
    for url in ("", "localhost:8545", "ftp://x", "http://"):
        with pytest.raises(SwarmError, match="not an http or https url"):
            Chain(url)


def test_secrets_in_a_url_stay_out_of_messages():
    with pytest.raises(ChainUnavailable) as caught:
        Chain("http://user:password@127.0.0.1:1/key123?token=abc").head()
    assert not any(secret in str(caught.value) for secret in ("password", "key123", "abc"))


def test_threads_that_send_from_one_account_do_not_collide(node, chain, founder, new_identity):
    targets = [new_identity().address for _ in range(12)]
    clients = [Chain(node.url), Chain(node.url)]

    def pay(index: int) -> int:
        return clients[index % 2].send(founder, Transaction(targets[index], value=1000 + index)).gas_used

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(pay, range(12))) == [21_000] * 12
    assert [chain.balance(target) for target in targets] == list(range(1000, 1012))


def test_another_process_with_the_same_account_costs_a_second_try(chain, founder, new_identity, monkeypatch):
    target = new_identity().address
    chain.send(founder, Transaction(target, value=1))
    honest = chain._call
    stale = ["0x0"]  # the nonce as it was before the other process sent

    def call(method, *params):
        return stale.pop() if method == "eth_getTransactionCount" and stale else honest(method, *params)

    monkeypatch.setattr(chain, "_call", call)
    chain.send(founder, Transaction(target, value=1))
    assert chain.balance(target) == 2


def test_an_account_that_cannot_pay_learns_how_much_is_missing(chain, founder, new_identity):
    with pytest.raises(InsufficientFunds, match=r"may cost 5; send it at least \d"):
        chain.send(founder, Transaction(new_identity().address, value=5 * 10**18))


def test_the_faucet_gives_to_the_poor_only(chain, new_identity):
    identity = new_identity()
    assert chain.balance(identity.address) == 0
    assert chain.faucet(identity.address)
    assert chain.balance(identity.address) == 10**18
    assert chain.faucet(identity.address)
    assert chain.balance(identity.address) == 10**18


def test_a_chain_without_a_faucet():
    refusal = b'{"jsonrpc": "2.0", "id": %d, "error": {"code": -32601, "message": "no such method"}}'
    with server(response(refusal % 1)) as url:
        chain = Chain(url)
        chain._chain_id = 1
        assert chain.faucet("0x" + "11" * 20) is False


def test_first_block_at(chain, new_identity):
    now = int(time.time())
    head = chain.head()
    assert now <= head.timestamp <= int(time.time())  # the past is always complete
    assert chain.first_block_at(now + 60) is None
    for _ in range(15):  # several blocks a second, for three seconds
        chain.faucet(new_identity().address)
        time.sleep(0.2)
    first = chain.first_block_at(0)
    assert first is not None and first.number == 0
    blocks = [chain.block(number) for number in range(chain.head().number + 1)]
    assert all(early.timestamp <= late.timestamp for early, late in pairwise(blocks))
    for wanted in range(blocks[0].timestamp - 1, blocks[-1].timestamp + 1):
        expected = next(block for block in blocks if block.timestamp >= wanted)
        assert chain.first_block_at(wanted) == expected


def test_an_idle_chain_mines_one_block_when_it_is_looked_at(chain):
    before = chain.head()
    time.sleep(2.1)
    after = chain.head()
    assert after.number == before.number + 1
    assert after.timestamp >= before.timestamp + 2
    assert chain.block(after.number + 1) is None  # asked before anything that looks at the head again
    assert chain.first_block_at(before.timestamp + 1) == after
