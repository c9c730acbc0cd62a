"""Sending: one row of nonces per account, at most once, and through everything that a chain does to a transaction."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from eth_account import Account

from swarm.chain import sending
from swarm.chain.client import Chain, ChainUnavailable, InsufficientFunds, Reverted, Transaction
from swarm.errors import SwarmError
from swarm.identity.wallet import Wallet
from tests.chain.fake_node import fake_node
from tests.foundry.anvil import AnvilChain

TARGET = "0x" + "77" * 20
REVERTS = Transaction(None, bytes.fromhex("60aa60005260206000fd"))  # creation code that reverts with one word
WAIT_S = 10.0


def until(what):
    """The first true value of `what()`."""
    deadline = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


@pytest.fixture
def lonely(anvil, new_identity):
    """A chain of the test's own with an account that can pay."""
    chain = AnvilChain(anvil.url, expected_chain_id=anvil.chain_id)
    payer = new_identity()
    chain.faucet(payer.address)
    return chain, payer


@pytest.fixture
def start_sending():
    """Send in the background."""
    with ThreadPoolExecutor(2) as threads:

        def start(chain, payer, **more) -> Future:
            return threads.submit(chain.send, payer, Transaction(TARGET, value=5), 20, **more)

        yield start


def pending(anvil, payer) -> dict:
    """The transaction of the account that waits in the node's pool, or {}."""
    pool = anvil.ask("txpool_content")["pending"]
    return next(
        (dict(*sent.values()) for account, sent in pool.items() if account.lower() == payer.address.lower()), {}
    )


def test_threads_that_send_from_one_account_do_not_collide(node, chain, founder, new_identity, monkeypatch):
    monkeypatch.setattr(sending, "MAX_NONCES", 1)
    targets = [new_identity().address for _ in range(12)]
    clients = [Chain(node.url), Chain(node.url)]

    def pay(index: int) -> int:
        return clients[index % 2].send(founder, Transaction(targets[index], value=1000 + index)).gas_used

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(pay, range(12))) == [21_000] * 12
    assert [chain.balance(target) for target in targets] == list(range(1000, 1012))


def test_processes_that_send_from_one_account_do_not_collide(node, chain, new_identity):
    secret, target = os.urandom(32), new_identity().address
    chain.faucet(Wallet(secret).address)
    program = (
        "import sys\nfrom swarm.chain import sending\nfrom swarm.chain.client import Chain, Transaction\n"
        "from swarm.identity.wallet import Wallet\nsending.MAX_NONCES = 1\n"
        "wallet, chain = Wallet(bytes.fromhex(sys.stdin.readline())), Chain(sys.argv[1])\n"
        "for _ in range(4): chain.send(wallet, Transaction(sys.argv[2], value=1))\n"
    )
    senders = [
        subprocess.Popen([sys.executable, "-c", program, node.url, target], stdin=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for sender in senders:
        sender.communicate(secret.hex() + "\n", timeout=60)
    assert [sender.returncode for sender in senders] == [0, 0, 0]
    assert chain.balance(target) == 12


def test_a_nonce_that_another_machine_used_costs_a_second_try(chain, founder, new_identity, monkeypatch):
    target = new_identity().address
    chain.send(founder, Transaction(target, value=1))
    honest, stale, kept = sending.quote, [0], []

    def quote(*arguments):
        terms = honest(*arguments)
        return sending.Quote(terms.gas, terms.max_fee, terms.tip, stale.pop() if stale else terms.nonce, terms.balance)

    monkeypatch.setattr(sending, "quote", quote)
    monkeypatch.setattr(sending, "NONCE_GRACE_S", 0.2)
    # Each is of another value: with the nonce of the first it could be the very same transaction.
    chain.send(founder, Transaction(target, value=2), keep=lambda versions: kept.append(len(versions)))
    assert chain.balance(target) == 3
    assert kept == [1, 0, 1]
    stale += [0, 0, 0]
    with pytest.raises(SwarmError, match=r"another program sends from the account .* stop one of them"):
        chain.send(founder, Transaction(target, value=4))
    assert chain.balance(target) == 3


def test_a_wallet_pays_as_a_peer_does(chain):
    wallet = Wallet(os.urandom(32))
    chain.faucet(wallet.address)
    assert chain.send(wallet, Transaction(TARGET, value=1)).gas_used == 21_000


def test_an_account_that_cannot_pay_learns_how_much_is_missing(chain, founder, new_identity):
    with pytest.raises(InsufficientFunds, match=r"may cost 5; send it at least \d"):
        chain.send(founder, Transaction(TARGET, value=5 * 10**18))
    poor = new_identity()
    with pytest.raises(InsufficientFunds, match="has 0 ether") as caught:
        chain.send(poor, Transaction(TARGET))
    assert caught.value.address == poor.address and 0 < caught.value.missing_wei < 10**16


def test_an_estimate_sends_nothing(chain, founder):
    before = chain.balance(founder.address)
    gas, cost = chain.estimate(founder.address, Transaction(TARGET, value=7))
    assert 21_000 <= gas < 25_000 and 7 < cost < 10**16
    with pytest.raises(Reverted) as caught:
        chain.estimate(founder.address, REVERTS)
    assert caught.value.data == (0xAA).to_bytes(32, "big")
    with pytest.raises(InsufficientFunds):
        chain.estimate(founder.address, Transaction(TARGET, value=5 * 10**18))
    assert chain.balance(founder.address) == before
    assert chain.send(founder, Transaction(TARGET, value=7)).cost + 7 <= cost


def test_a_refusal_sends_nothing(chain, founder):
    before, kept = chain.balance(founder.address), []
    with pytest.raises(Reverted):
        chain.send(founder, REVERTS, keep=kept.append)
    assert chain.balance(founder.address) == before and kept == []


def test_the_same_bytes_after_a_kill_are_not_a_second_payment(chain, founder, new_identity):
    target, kept = new_identity().address, []

    def killed(versions):
        kept.extend(versions)
        raise KeyboardInterrupt  # before the bytes are sent

    for _ in range(2):  # nothing was sent; everything was sent and the receipt was not seen
        with pytest.raises(KeyboardInterrupt):
            chain.send(founder, Transaction(target, value=3), keep=killed)
        first = chain.send(founder, Transaction(target, value=3), earlier=kept, keep=killed)
        again = chain.send(founder, Transaction(target, value=3), earlier=kept, keep=killed)
        assert first == again
        assert chain.balance(target) == 3
        target = new_identity().address
        kept.clear()


def test_confirmations(chain, founder, start_sending, new_identity):
    sent = start_sending(chain, founder, confirmations=3)
    other = new_identity()
    chain.faucet(other.address)
    time.sleep(0.5)
    assert not sent.done()
    while not sent.done():
        chain.send(other, Transaction(TARGET))
    assert chain.head().number >= sent.result().block_number + 2


def test_a_transaction_that_is_not_mined_in_time(anvil, lonely):
    chain, payer = lonely
    anvil.ask("anvil_setAutomine", False)
    started = time.monotonic()
    with pytest.raises(ChainUnavailable, match=r"0x\w{64} of 0x\w{40} was not mined within 0.5 s.*may still be"):
        chain.send(payer, Transaction(TARGET), 0.5)
    assert time.monotonic() - started < 3


def test_stopping_ends_the_wait(anvil, lonely, start_sending):
    chain, payer = lonely
    anvil.ask("anvil_setAutomine", False)
    stop = threading.Event()
    sent = start_sending(chain, payer, stop=stop)
    until(lambda: pending(anvil, payer))
    stop.set()
    with pytest.raises(ChainUnavailable, match="was stopped"):
        sent.result(3)


def test_a_dropped_transaction_is_sent_again(anvil, lonely, start_sending):
    chain, payer = lonely
    anvil.ask("anvil_setAutomine", False)
    sent = start_sending(chain, payer)
    first = until(lambda: pending(anvil, payer))
    anvil.ask("anvil_dropTransaction", first["hash"])
    assert until(lambda: pending(anvil, payer))["hash"] == first["hash"]
    anvil.ask("evm_mine")
    assert sent.result(WAIT_S).transaction_hash.hex() == first["hash"][2:]
    assert chain.balance(TARGET) == 5


def test_a_transaction_that_a_reorganisation_drops_is_sent_again(anvil, lonely, start_sending):
    chain, payer = lonely
    anvil.ask("anvil_mine", hex(5))
    kept = []
    sent = start_sending(chain, payer, confirmations=3, keep=kept.extend)
    until(lambda: chain.balance(TARGET) == 5)
    anvil.ask("anvil_setAutomine", False)
    anvil.ask("anvil_reorg", 1, [])
    assert chain.balance(TARGET) == 0
    until(lambda: pending(anvil, payer))
    assert not sent.done()
    anvil.ask("anvil_mine", hex(3))
    receipt = sent.result(WAIT_S)
    assert chain.receipt(receipt.transaction_hash) == receipt
    assert chain.balance(TARGET) == 5 and len(kept) == 1


def test_an_underpriced_transaction_is_replaced_by_one_that_pays_more(anvil, lonely, start_sending):
    chain, payer = lonely
    anvil.ask("anvil_setAutomine", False)
    kept = []
    sent = start_sending(chain, payer, keep=lambda versions: kept.append(versions))
    first = until(lambda: pending(anvil, payer))
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(50 * 10**9))
    anvil.ask("evm_mine")
    second = until(lambda: (found := pending(anvil, payer)) and found["hash"] != first["hash"] and found)
    assert second["nonce"] == first["nonce"]
    for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
        assert int(second[fee], 16) >= int(first[fee], 16) * 1.125
    anvil.ask("evm_mine")
    assert sent.result(WAIT_S).transaction_hash.hex() == second["hash"][2:]
    assert chain.balance(TARGET) == 5 and [len(versions) for versions in kept] == [1, 2]


def test_a_transaction_that_waits_while_prices_rise_is_replaced(founder):
    """anvil throws it out of its pool at once; geth leaves it there."""
    sent = []

    def answer(method, params):
        if method == "eth_sendRawTransaction":
            sent.append(params[0])
            return "0x" + "11" * 32
        if method == "eth_getTransactionReceipt":
            status = {"status": "0x1", "gasUsed": "0x5208", "blockNumber": "0x5", "transactionHash": params[0]}
            return status if len(sent) > 1 else None
        if method == "eth_getBlockByNumber":
            return {"baseFeePerGas": hex(10**12)}
        return {"eth_chainId": "0x7", "eth_call": "0x", "eth_getBalance": hex(10**18)}.get(method, "0x5208")

    with fake_node(answer) as url:
        assert Chain(url).send(founder, Transaction(TARGET), 5).block_number == 5
    assert len(sent) == 2


def test_a_transaction_that_nobody_takes_is_replaced_a_few_times_only(anvil, lonely, start_sending, monkeypatch):
    monkeypatch.setattr(sending, "REPLACE_AFTER_S", 0.0)
    monkeypatch.setattr(sending, "MAX_REPLACEMENTS", 2)
    chain, payer = lonely
    anvil.ask("anvil_setAutomine", False)
    kept = []
    sent = start_sending(chain, payer, keep=lambda versions: kept.append(len(versions)))
    until(lambda: kept == [1, 2, 3])
    time.sleep(1)
    anvil.ask("evm_mine")
    assert sent.result(WAIT_S) and kept == [1, 2, 3]
    assert chain.balance(TARGET) == 5


def test_a_node_that_is_killed_and_comes_back(anvil, lonely, start_sending):
    chain, payer = lonely
    anvil.ask("anvil_setAutomine", False)
    sent = start_sending(chain, payer)
    first = until(lambda: pending(anvil, payer))
    time.sleep(1.5)  # it writes its state once a second
    anvil.kill()
    time.sleep(0.5)
    assert not sent.done()
    anvil.start()
    assert sent.result(WAIT_S).transaction_hash.hex() == first["hash"][2:]
    assert chain.balance(TARGET) == 5


def test_another_chain_behind_the_url_gets_nothing(anvil, lonely, start_sending):
    chain, payer = lonely
    assert chain.chain_id == anvil.chain_id
    anvil.ask("anvil_setChainId", 4242)
    sentence = f"has the id 4242, but this swarm lives on chain {anvil.chain_id}"
    kept = []
    with pytest.raises(SwarmError, match=sentence):
        chain.send(payer, Transaction(TARGET, value=5), keep=kept.append)
    assert kept == []  # nothing was even signed
    anvil.ask("anvil_setChainId", anvil.chain_id)
    anvil.ask("anvil_setAutomine", False)
    sent = start_sending(chain, payer)
    until(lambda: pending(anvil, payer))
    anvil.kill()
    anvil.chain_id = 4242
    anvil.start()
    with pytest.raises(SwarmError, match=sentence):
        sent.result(WAIT_S)


def test_what_is_signed_is_for_the_expected_chain_whatever_the_node_says(founder):
    """A node that says one id and passes transactions on to another chain gains nothing."""
    sent = []

    def answer(method, params):
        if method == "eth_sendRawTransaction":
            sent.append(params[0])
            return "0x" + "11" * 32
        return {"eth_chainId": "0x7", "eth_call": "0x", "eth_getBalance": hex(10**18)}.get(method, "0x5208")

    with fake_node(answer) as url, pytest.raises(ChainUnavailable):
        Chain(url, expected_chain_id=7).send(founder, Transaction(TARGET), 0.3)
    assert Account.recover_transaction(sent[0]) == founder.address
    assert bytes.fromhex(sent[0][2:])[0] == 2 and sent[0][8:10] == "07"  # type 2; list header; chain id


def test_a_refusal_by_the_node_is_one_sentence(founder):
    def answer(method, params):
        if method == "eth_sendRawTransaction":
            return LookupError("transaction type not supported")
        return {"eth_chainId": "0x7", "eth_call": "0x", "eth_getBalance": hex(10**18)}.get(method, "0x5208")

    with fake_node(answer) as url, pytest.raises(SwarmError, match="refuses a transaction: transaction type not"):
        Chain(url).send(founder, Transaction(TARGET), 0.3)
