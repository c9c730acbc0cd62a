"""The client against the real node, and against servers that misbehave."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from swarm.chain.client import Chain, ChainUnavailable, Transaction
from swarm.errors import SwarmError
from tests.chain.fake_node import fake_node

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


def test_the_faucet_gives_to_the_poor_only(chain, new_identity):
    identity = new_identity()
    assert chain.balance(identity.address) == 0
    assert chain.faucet(identity.address)
    assert chain.balance(identity.address) == 10**18
    assert chain.faucet(identity.address)
    assert chain.balance(identity.address) == 10**18


def test_a_chain_without_a_faucet():
    with fake_node(lambda method, params: "0x1" if method == "eth_chainId" else LookupError("no such method")) as url:
        assert Chain(url).faucet("0x" + "11" * 20) is False


def test_first_block_at(chain, founder):
    assert chain.first_block_at(int(time.time()) + 3600) is None
    for _ in range(15):  # several blocks a second, for three seconds
        chain.send(founder, Transaction(founder.address))
        time.sleep(0.15)
    first = chain.first_block_at(0)
    assert first is not None and first.number == 0
    blocks = [chain.block(number) for number in range(chain.head().number + 1)]
    assert all(early.timestamp <= late.timestamp for early, late in pairwise(blocks))
    for wanted in range(blocks[0].timestamp - 1, blocks[-1].timestamp + 1):
        expected = next(block for block in blocks if block.timestamp >= wanted)
        assert chain.first_block_at(wanted) == expected


def test_an_idle_chain_mines_one_block_when_it_is_looked_at(embedded):
    chain = Chain(embedded.url)
    now = int(time.time())
    before = chain.head()
    assert now <= before.timestamp <= int(time.time())  # the past is always complete
    time.sleep(2.1)
    after = chain.head()
    assert after.number == before.number + 1
    assert after.timestamp >= before.timestamp + 2
    assert chain.block(after.number + 1) is None  # asked before anything that looks at the head again
    assert chain.first_block_at(before.timestamp + 1) == after


def block(number: int) -> dict[str, str]:
    return {"number": hex(number), "hash": "0x" + f"{number:064x}", "timestamp": hex(1000 + 12 * number)}


def long_chain(asked: list[str], head: int):
    """A node with `head` blocks, 12 s apart; what it is asked is noted in `asked`."""

    def answer(method, params):
        asked.append(method)
        if method == "eth_getBlockByNumber":
            return block(head if params[0] == "latest" else int(params[0], 16))
        return {"eth_chainId": "0x7", "eth_getCode": "0x6000"}[method]

    return answer


def test_a_block_deep_below_the_head_is_found_in_few_requests_and_then_remembered():
    asked: list[str] = []
    posts: list[object] = []
    with fake_node(long_chain(asked, 10_000_000), posts=posts) as url:
        chain = Chain(url)
        for number in (0, 1, 123_456, 9_999_000, 10_000_000):
            assert chain.first_block_at(1000 + 12 * number) == chain.first_block_at(1000 + 12 * number - 11)
            assert chain.first_block_at(1000 + 12 * number).number == number
        posts.clear()
        assert chain.first_block_at(1000 + 12 * 5_000_000).number == 5_000_000
        assert len(posts) <= 9
        asked.clear()
        assert chain.first_block_at(1000 + 12 * 5_000_000).number == 5_000_000
        assert len(asked) == 5  # the head, and 1, 2, 4 and 8 below it, which could still change


def test_code_is_read_once():
    asked: list[str] = []
    with fake_node(long_chain(asked, 5)) as url:
        chain = Chain(url)
        assert chain.code("0x" + "AA" * 20) == chain.code("0x" + "aa" * 20) == bytes.fromhex("6000")
    assert asked == ["eth_chainId", "eth_getCode"]


def test_several_reads_are_one_request_and_one_by_one_where_the_node_takes_no_batches():
    def answer(method, params):
        return "0x7" if method == "eth_chainId" else params[0]["data"]

    calls = [("0x" + "11" * 20, bytes([number])) for number in range(250)]
    for batches, requests in (("yes", 3), ("error", 251), ("404", 251)):
        posts: list[object] = []
        with fake_node(answer, batches=batches, posts=posts) as url:
            chain = Chain(url)
            assert chain.chain_id == 7
            posts.clear()
            assert chain.call_all(calls) == [data for _, data in calls]
            assert len(posts) == requests
            assert chain.call_all(calls[:3]) == [data for _, data in calls[:3]]
            assert len(posts) == requests + (1 if batches == "yes" else 3)


def test_half_a_batch_is_no_answer():
    with (
        fake_node(lambda method, params: "0x7", batches="half") as url,
        pytest.raises(ChainUnavailable, match="left out eth_call in its answer to a batch"),
    ):
        Chain(url).call_all([("0x" + "11" * 20, b"")] * 4)


def test_one_refusal_in_a_batch_is_told(chain, founder):
    with pytest.raises(SwarmError, match="refuses eth_call"):
        chain.call_all([(founder.address, b""), ("0x12", b"")])


def test_a_connection_is_for_one_chain_only():
    ids = ["0x7"]

    def answer(method, params):
        return ids[-1] if method == "eth_chainId" else "0x5"

    with fake_node(answer) as url:
        chain = Chain(url, timeout_s=DEADLINE_S)
        assert chain.balance("0x" + "11" * 20) == 5
        ids.append("silence")
        with pytest.raises(ChainUnavailable):
            chain._connection._sent([("eth_chainId", [])])
        ids.append("0x8")
        with pytest.raises(SwarmError, match="has the id 8, but this swarm lives on chain 7; give the RPC url"):
            chain.balance("0x" + "11" * 20)
        ids.append("0x7")
        assert chain.balance("0x" + "11" * 20) == 5


def test_events_are_read_in_halves_where_the_node_finds_the_range_too_wide():
    spans = []

    def answer(method, params):
        if method == "eth_chainId":
            return "0x7"
        first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        spans.append((first, last))
        if last - first >= 3:
            return LookupError("query returned more than 10000 results")
        return [
            {
                "address": "0x" + "11" * 20,
                "topics": ["0x" + "22" * 32],
                "data": "0x33",
                "blockNumber": hex(number),
                "transactionHash": "0x" + "44" * 32,
            }
            for number in range(first, last + 1)
        ]

    with fake_node(answer) as url:
        logs = Chain(url).logs("0x" + "11" * 20, [None, b"\x22" * 32], 10, 20)
    assert [log.block_number for log in logs] == list(range(10, 21))
    assert logs[0].data == b"\x33" and len(spans) == 7


def test_events_of_a_contract(registry, chain, new_identity):
    receipts = [registry.register(new_identity()) for _ in range(3)]
    logs = chain.logs(registry.address, [], receipts[0].block_number, chain.head().number)
    assert [log.transaction_hash for log in logs] == [receipt.transaction_hash for receipt in receipts]
    assert chain.receipt(receipts[0].transaction_hash) == receipts[0]
    assert chain.receipt(b"\x11" * 32) is None
