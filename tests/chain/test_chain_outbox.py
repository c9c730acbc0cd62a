"""The outbox: nobody waits, nothing is lost, nothing is sent twice."""

import os
import signal
import subprocess
import sys
import time

import pytest

from swarm.chain import outbox as module
from swarm.chain.client import Chain, Transaction
from swarm.chain.outbox import Outbox
from swarm.events import Emitter
from swarm.identity.wallet import Wallet
from swarm.journal.journal import Journal, OutboxState
from tests.foundry.anvil import AnvilChain

REVERTS = Transaction(None, bytes.fromhex("60aa60005260206000fd"))
WAIT_S = 15.0


def until(what):
    deadline = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.4)


@pytest.fixture
def make(tmp_path, new_identity):
    """Outboxes of one journal and account; the events of all are in `make.events`."""
    started = []
    payer = new_identity()

    def new(chain, **more):
        box = Outbox(Journal(tmp_path / "journal.sqlite"), chain, payer, Emitter(new.events.append, "me"), **more)
        box.start()
        started.append(box)
        return box

    new.events = []
    new.payer = payer
    yield new
    for box in started:
        assert box.stop()


def kinds(make):
    return [event["event"] for event in make.events]


def in_an_hour():
    return time.time() + 3600


def test_what_is_put_is_sent_in_order_and_the_faucet_is_asked(chain, make, new_identity):
    targets = [new_identity().address for _ in range(3)]
    box = make(chain)
    for number, target in enumerate(targets):
        assert box.put(f"pay {number}", Transaction(target, value=2**64 // 100 + number), in_an_hour())
    until(lambda: box.row("pay 2").state == OutboxState.MINED)
    rows = [box.row(f"pay {number}") for number in range(3)]
    assert [chain.balance(target) for target in targets] == [2**64 // 100 + number for number in range(3)]
    receipts = [chain.receipt(row.transaction_hash) for row in rows]
    assert receipts[0].block_number < receipts[1].block_number < receipts[2].block_number
    assert not box.put("pay 1", Transaction(targets[1], value=1), in_an_hour())
    assert kinds(make) == [] and box.row("nothing") is None


def test_a_refusal_is_final_and_its_reason_is_kept(chain, make):
    chain.faucet(make.payer.address)
    box = make(chain)
    box.put("wrong", REVERTS, in_an_hour())
    row = until(lambda: (row := box.row("wrong")).state == OutboxState.REFUSED and row)
    assert "refuses this: 0x" in row.last_error and row.attempts == 1
    assert [(event["event"], event["key"]) for event in make.events] == [("outbox_gave_up", "wrong")]
    assert box.put("wrong", Transaction(make.payer.address), in_an_hour())
    until(lambda: box.row("wrong").state == OutboxState.MINED)


def test_a_dead_chain_is_told_once_and_all_is_sent_when_it_is_back(anvil, make, new_identity):
    chain, target = AnvilChain(anvil.url), new_identity().address
    chain.faucet(make.payer.address)
    time.sleep(1.2)  # anvil writes its state once a second
    anvil.kill()
    box = make(chain)
    started = time.monotonic()
    for number in range(3):
        box.put(f"pay {number}", Transaction(target, value=1), in_an_hour())
    assert time.monotonic() - started < 1
    until(lambda: box.row("pay 0").attempts >= 3)
    assert kinds(make) == ["outbox_failing"] and "cannot be reached" in make.events[0]["what"]
    assert "cannot be reached" in box.row("pay 0").last_error
    anvil.start()
    until(lambda: box.row("pay 2").state == OutboxState.MINED)
    until(lambda: len(make.events) == 2)
    assert kinds(make) == ["outbox_failing", "outbox_working"] and make.events[1]["waiting"] == 0
    assert chain.balance(target) == 3


def test_without_money_it_waits_for_some(anvil, make, new_identity):
    chain, target = Chain(anvil.url), new_identity().address  # without the faucet
    box = make(chain)
    box.put("pay", Transaction(target, value=1), in_an_hour())
    until(lambda: box.row("pay").attempts >= 2)
    assert "send it at least" in box.row("pay").last_error
    AnvilChain(anvil.url).faucet(make.payer.address)
    until(lambda: box.row("pay").state == OutboxState.MINED)
    assert chain.balance(target) == 1


def test_not_before_and_expiry(embedded, make):
    chain = Chain(embedded.url)
    chain.faucet(make.payer.address)
    box = make(chain)
    now = time.time()
    box.put("late", Transaction(make.payer.address), now - 1)
    box.put("early", Transaction(make.payer.address), now + 60, not_before=now + 1)
    until(lambda: box.row("late").state == OutboxState.EXPIRED)
    assert box.row("early").state == OutboxState.WAITING
    until(lambda: box.row("early").state == OutboxState.MINED)
    assert time.time() >= now + 1
    assert kinds(make) == ["outbox_gave_up"] and "before it expired" in make.events[0]["what"]


def test_what_expires_while_it_is_on_its_way_is_found_mined(anvil, make, new_identity):
    chain, target = AnvilChain(anvil.url), new_identity().address
    chain.faucet(make.payer.address)
    anvil.ask("anvil_setAutomine", False)
    box = make(chain)
    box.put("pay", Transaction(target, value=1), time.time() + 1.0)
    until(lambda: box.row("pay").signed)
    anvil.ask("evm_mine")
    until(lambda: box.row("pay").state == OutboxState.MINED)
    box.put("lost", Transaction(target, value=1), time.time() + 0.5)
    until(lambda: box.row("lost").state == OutboxState.EXPIRED)


def test_stopping_is_quick_and_the_next_run_goes_on(anvil, make, new_identity):
    chain, target = AnvilChain(anvil.url), new_identity().address
    chain.faucet(make.payer.address)
    anvil.ask("anvil_setAutomine", False)
    box = make(chain)
    box.put("pay", Transaction(target, value=1), in_an_hour())
    signed = until(lambda: box.row("pay").signed)
    started = time.monotonic()
    assert box.stop() and time.monotonic() - started < 1
    assert box.row("pay").state == OutboxState.WAITING
    again = make(chain)
    anvil.ask("anvil_setAutomine", True)
    anvil.ask("evm_mine")
    row = until(lambda: (row := again.row("pay")).state == OutboxState.MINED and row)
    assert row.signed == signed and chain.balance(target) == 1


DIES = {
    "before the bytes are out": "rpc.Rpc.batch = dying(rpc.Rpc.batch, before=True)",
    "before the receipt is seen": "rpc.Rpc.batch = dying(rpc.Rpc.batch, before=False)",
}
PROGRAM = """
import os, signal, sys, time
from swarm.chain import rpc
from swarm.chain.client import Chain, Transaction
from swarm.chain.outbox import Outbox
from swarm.events import Emitter
from swarm.identity.wallet import Wallet
from swarm.journal.journal import Journal

def dying(batch, before):
    def call(self, requests):
        sends = any(method == "eth_sendRawTransaction" for method, _ in requests)
        answers = batch(self, requests) if not (sends and before) else None
        if sends:
            os.kill(os.getpid(), signal.SIGKILL)
        return answers
    return call

wallet = Wallet(bytes.fromhex(sys.stdin.readline()))
box = Outbox(Journal(sys.argv[1]), Chain(sys.argv[2]), wallet, Emitter(lambda event: None, "me"))
box.put("pay", Transaction(sys.argv[3], value=1), time.time() + 3600)
exec(sys.argv[4])
box.start()
time.sleep(30)
"""


@pytest.mark.parametrize("moment", DIES)
def test_killed_between_sending_and_receipt_it_does_not_send_twice(chain, node, tmp_path, new_identity, moment):
    secret, target = os.urandom(32), new_identity().address
    wallet = Wallet(secret)
    chain.faucet(wallet.address)
    path = tmp_path / "journal.sqlite"
    command = [sys.executable, "-c", PROGRAM, str(path), node.url, target, DIES[moment]]
    killed = subprocess.run(command, input=secret.hex() + "\n", text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert chain.balance(target) == (0 if moment == "before the bytes are out" else 1)
    journal = Journal(path)
    signed = journal.outbox_row("pay").signed
    assert len(signed) == 1
    box = Outbox(journal, chain, wallet, Emitter(lambda event: None, "me"))
    box.start()
    row = until(lambda: (row := box.row("pay")).state == OutboxState.MINED and row)
    assert box.stop()
    assert row.signed == signed and chain.balance(target) == 1
