"""The embedded chain as a process: restarts, ends, locks, and requests that are none."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import astuple
from urllib.parse import urlsplit

import psutil
import pytest
from eth_hash.auto import keccak

from swarm.chain.abi import artifact
from swarm.chain.client import Chain, ChainUnavailable, Transaction
from swarm.chain.launch import start_node
from swarm.chain.ledger import Ledger
from swarm.chain.methods import Methods
from swarm.chain.registry import Registry, Terms, deploy
from swarm.errors import SwarmError
from tests.chain.fake_node import fake_node


@pytest.fixture(scope="session")
def node(embedded):
    return embedded


def post(url: str, body: bytes, **headers: str) -> tuple[int, object]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None
    finally:
        connection.close()


def code_of(url: str, request: object) -> int:
    status, answer = post(url, json.dumps(request).encode())
    assert status == 200 and answer["jsonrpc"] == "2.0"
    return answer["error"]["code"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # a zombie nobody waits for is dead enough
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def gone_within(pid: int, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_a_killed_node_comes_back_with_everything_at_the_same_url(home, new_identity):
    first = start_node(home)
    try:
        chain = Chain(first.url)
        founder = new_identity()
        chain.faucet(founder.address)
        registry = deploy(chain, founder, Terms(b"\x22" * 32, 1_800_000_000, 60))
        registry.register(founder)
        head = chain.head()
        os.kill(first.pid, signal.SIGKILL)
        assert gone_within(first.pid, 5)
        with pytest.raises(ChainUnavailable):
            chain.head()
    finally:
        first.stop()
    second = start_node(home)
    try:
        assert (second.url, second.chain_id) == (first.url, first.chain_id)
        assert Registry(chain, registry.address).peers() == [founder.peer_id]  # the old client finds it again
        assert chain.block(head.number) == head
        assert registry.register(new_identity()) is not None
    finally:
        second.stop()
    assert not second.running
    second.stop()


def test_a_second_node_in_the_same_directory_is_refused(node, embedded_home):
    with pytest.raises(SwarmError, match=f"runs in {embedded_home} already \\(process {node.pid}\\)"):
        start_node(embedded_home)
    assert Chain(node.url).head()


def test_a_port_in_use_is_refused_if_asked_for_and_avoided_if_remembered(home, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SwarmError, match=f"cannot listen on 127.0.0.1 port {port}.*choose another port"):
            start_node(home, port=port)
        (home / "port").write_text(f"{port}\n")
        running = start_node(home)
        running.stop()
        assert running.url != f"http://127.0.0.1:{port}"


def test_a_damaged_chain_gives_a_sentence(home):
    home.mkdir()
    (home / "chain.sqlite").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(SwarmError, match=r"chain\.sqlite is not a chain or is damaged.*move it away"):
        start_node(home)


def parent_process(home, body: str) -> tuple[subprocess.Popen, int]:
    """A process that starts a node, says the node's pid, goes on with `body`, and does not mind Ctrl-C.

    Its handler is set after the node has started, which would inherit an ignored signal, and before it says anything.
    """
    program = (
        "import pathlib, time, os, signal, threading\n"
        "from swarm.chain.launch import start_node\n"
        f"node = start_node(pathlib.Path({str(home)!r}))\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        f"print(node.pid, flush=True)\n{body}"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


FORKED = "if os.fork() == 0:\n    time.sleep(4)\n    os._exit(0)\n"  # a child that keeps the pipe to the node open


@pytest.mark.parametrize("before", ["", FORKED])
def test_the_node_dies_with_its_parent(home, before):
    parent, pid = parent_process(home, before + "time.sleep(60)")
    assert is_alive(pid)
    time.sleep(0.2)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone_within(pid, 2)


def test_ctrl_c_in_the_terminal_does_not_reach_the_node(home):
    parent, pid = parent_process(home, "time.sleep(60)")
    os.killpg(parent.pid, signal.SIGINT)
    assert not gone_within(pid, 1)
    parent.kill()
    parent.wait()
    assert gone_within(pid, 2)


def test_malformed_requests_get_json_rpc_errors(node):
    for body in (b"", b"{", b"\xff\xfe", b"<html>", b"[" * 4000):
        assert post(node.url, body)[1]["error"]["code"] == -32700
    assert post(node.url, b"[" * 1_000_000)[1]["error"]["code"] == -32600
    for request in (7, "x", None, {}, {"method": 3}, {"method": "eth_chainId", "id": {}}, []):
        assert code_of(node.url, request) == -32600
    assert code_of(node.url, {"id": 1, "method": "eth_mine"}) == -32601
    for params in ({"a": 1}, "x", ["0x12"], [1, 2, 3, 4], [None], [["0x"]], ["0x" + "g" * 40], [True, {}]):
        assert code_of(node.url, {"id": 1, "method": "eth_getBalance", "params": params}) == -32602
    for method, params in [
        ("eth_call", [{"to": "0x1"}]),
        ("eth_call", [17]),
        ("eth_getBlockByNumber", ["newest"]),
        ("eth_getBlockByNumber", [-1]),
        ("eth_getLogs", [{"topics": 3}]),
        ("eth_getLogs", [{"address": [[]]}]),
        ("eth_sendRawTransaction", [None]),
        ("eth_feeHistory", ["many", "latest"]),
    ]:
        assert code_of(node.url, {"id": 1, "method": method, "params": params}) == -32602
    for raw in ("0x", "0x02", "0x" + "ff" * 50, "0x" + "00" * 200, "0x05" + "11" * 30):
        assert code_of(node.url, {"id": 1, "method": "eth_sendRawTransaction", "params": [raw]}) == -32000
    assert Chain(node.url).head()


def test_batches_and_notifications(node):
    ask = {"jsonrpc": "2.0", "id": 5, "method": "eth_chainId"}
    _, answers = post(node.url, json.dumps([ask, 3, {"method": "eth_chainId"}, {**ask, "id": "a"}]).encode())
    assert [answer["id"] for answer in answers] == [5, None, "a"]
    assert answers[0]["result"] == answers[2]["result"] == hex(node.chain_id)
    assert code_of(node.url, [ask] * 101) == -32600
    assert post(node.url, json.dumps({"method": "eth_chainId"}).encode())[1] is None


def test_oversized_requests_are_refused(node):
    status, answer = post(node.url, b" " * (1 << 20) + b"{}")
    assert status == 413 and "at most 1048576 bytes" in answer["error"]["message"]
    assert Chain(node.url).head()


def test_slow_clients_do_not_stop_the_others(node):
    place = urlsplit(node.url)
    slow = [socket.create_connection((place.hostname, place.port)) for _ in range(50)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n" + (b"\r\n{" if number % 2 else b""))
        started = time.monotonic()
        assert Chain(node.url).head()
        assert time.monotonic() - started < 2
    finally:
        for connection in slow:
            connection.close()


def test_an_endless_call_ends(node):
    # 5b600056: an endless loop as creation code
    request = {"id": 1, "method": "eth_call", "params": [{"data": "0x5b600056"}, "latest"]}
    started = time.monotonic()
    assert code_of(node.url, request) == -32000
    assert time.monotonic() - started < 20


def test_contracts_may_call_as_deep_as_the_gas_allows(node, chain, founder):
    itself = "5f5f5f5f5f305af1"  # call this very contract with all gas
    receipt = chain.send(founder, Transaction(None, bytes.fromhex("6008600c60003960086000f3" + itself)))
    assert chain.call(receipt.contract_address, b"") == b""
    assert chain.head()


def test_the_node_speaks_to_web3(node):
    from web3 import HTTPProvider, Web3
    from web3.exceptions import ContractCustomError
    from web3.middleware import SignAndSendRawMiddlewareBuilder

    from swarm.identity.key import Identity, point_of

    secret = secrets.token_bytes(32)
    identity = Identity(secret)
    web3 = Web3(HTTPProvider(node.url))
    web3.provider.make_request("swarm_faucet", [identity.address])
    account = web3.eth.account.from_key(secret)
    web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(account), layer=0)
    contract = web3.eth.contract(abi=artifact().abi, bytecode=artifact().bytecode)
    terms = Terms(b"\x33" * 32, 5, 60, 3600, governance=account.address, guardian=account.address)
    sent = contract.constructor(astuple(terms)).transact({"from": account.address})
    receipt = web3.eth.wait_for_transaction_receipt(sent)
    registry = web3.eth.contract(receipt["contractAddress"], abi=artifact().abi)
    point = point_of(identity.peer_id)
    register = registry.functions.register(point[:32], point[32:])
    receipt = web3.eth.wait_for_transaction_receipt(register.transact({"from": account.address}))
    logs = registry.events.PeerRegistered().get_logs(from_block=0)
    assert [log["args"]["account"] for log in logs] == [account.address]
    assert logs[0]["transactionHash"] == receipt["transactionHash"]
    with pytest.raises(ContractCustomError):
        register.transact({"from": account.address})
    assert web3.eth.get_block(receipt["blockNumber"], True)["transactions"][0]["from"] == account.address
    assert web3.eth.get_logs({"fromBlock": 0, "address": account.address}) == []
    assert len(web3.eth.fee_history(4, "latest", [50])["reward"]) <= 4
    assert web3.client_version.startswith("rl-swarm")


def test_the_node_outlives_the_thread_that_started_it(home):
    nodes = []
    starter = threading.Thread(target=lambda: nodes.append(start_node(home)))
    starter.start()
    starter.join()
    time.sleep(1)
    assert Chain(nodes[0].url).head()
    nodes[0].stop()


def test_events_are_refused_beyond_a_bound_and_read_in_parts(home, new_identity, monkeypatch):
    running = start_node(home)
    try:
        chain, founder = Chain(running.url), new_identity()
        chain.faucet(founder.address)
        registry = deploy(chain, founder, Terms(b"\x22" * 32, 1_800_000_000, 60))
        for _ in range(4):
            registry.register(new_identity())
        head = chain.head().number
    finally:
        running.stop()
    monkeypatch.setattr("swarm.chain.methods.MAX_LOG_TRANSACTIONS", 3)
    ledger = Ledger(home / "chain.sqlite")
    methods = Methods(ledger)

    def answer(method, params):
        said = json.loads(methods.answer(json.dumps({"id": 1, "method": method, "params": params}).encode()))
        return said["result"] if "result" in said else LookupError(said["error"]["message"])

    query = {"address": registry.address, "fromBlock": "0x0", "toBlock": hex(head)}
    assert "ask for fewer blocks" in str(answer("eth_getLogs", [query]))
    with fake_node(answer) as url:
        registered = keccak(b"PeerRegistered(address,bytes32,bytes32)")
        assert len(Chain(url).logs(registry.address, [registered], 0, head)) == 4
    ledger.close()


def test_it_listens_on_loopback_unless_told_otherwise(node):
    places = [each.laddr.ip for each in psutil.Process(node.pid).net_connections() if each.status == "LISTEN"]
    assert places == ["127.0.0.1"]
