"""The commands around the contract, on real chains: what they say, what they send, and what is so afterwards."""

import hashlib
import json
import secrets
import socket
import subprocess
import sys
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from eth_account import Account as EthAccount

from swarm import PROTOCOL
from swarm import __main__ as program
from swarm.chain.claims import Claims
from swarm.chain.client import Transaction
from swarm.chain.control import Control
from swarm.chain.ownership import Ownership
from swarm.chain.registry import Registry, Terms, deploy, send
from swarm.chain.settlements import Outcome, Settlements
from swarm.identity.files import write_private
from swarm.identity.key import Identity, load_or_create
from swarm.identity.wallet import Wallet
from swarm.journal.journal import Journal
from swarm.onchain import claim, command, place
from swarm.onchain.place import remember, remembered
from swarm.recipe import catalogue
from swarm.round.home import JOURNAL_NAME, KEY_NAME
from swarm.settlement.documents import Statement, encode
from swarm.settlement.merkle import MerkleTree

RECIPE_HASH = b"\x11" * 32
PASSWORD = "correct horse"
# A token with one purse: transferFrom fills it, transfer empties it, balanceOf tells what is in it.
TOKEN = bytes.fromhex(
    "604a80600b6000396000f3"
    "60003560e01c806370a0823114603e57806323b872dd14602857"
    "6000546024359003600055603356"
    "5b60005460443501600055"
    "5b600160005260206000f3"
    "5b60005460005260206000f3"
)


class Told:
    """What a command line printed, and its exit status."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def json(self):
        lines = self.out.splitlines()
        assert len(lines) == 1
        return json.loads(lines[0])


@pytest.fixture
def swarm(capsys):
    def run(*arguments: object, status: int = 0) -> Told:
        capsys.readouterr()
        found = command.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert found == status, printed
        return Told(found, printed.out, printed.err)

    return run


@pytest.fixture
def refused(swarm):
    """The one sentence with which a command ends."""

    def run(*arguments: object) -> str:
        told = swarm(*arguments, status=2)
        assert told.err.startswith("swarm: ") and told.err.count("\n") == 1
        assert "Traceback" not in told.err
        return told.err

    return run


@pytest.fixture
def keystore(tmp_path, chain, monkeypatch):
    """An owner's wallet that opens fast and has ether."""
    secret = secrets.token_bytes(32)
    path = tmp_path / "owner.json"
    write_private(path, json.dumps(EthAccount.encrypt(secret, PASSWORD, kdf="pbkdf2", iterations=2)).encode())
    monkeypatch.setenv("SWARM_OWNER_PASSWORD", PASSWORD)
    monkeypatch.delenv("SWARM_OWNER_PASSWORD_FILE", raising=False)
    assert chain.faucet(Wallet(secret).address)
    return path


@pytest.fixture
def owner(keystore):
    return "0x" + json.loads(keystore.read_text())["address"].removeprefix("0x")


@pytest.fixture
def new_home(tmp_path, chain):
    """A folder with a key that can pay, of a peer that belongs to a swarm."""

    def make(registry: Registry | None = None, name: str = "peer") -> Path:
        home = tmp_path / name
        identity = load_or_create(home / KEY_NAME)
        assert chain.faucet(identity.address)
        if registry is not None:
            remember(home, registry)
        return home

    return make


def key_of(home: Path) -> Identity:
    return load_or_create(home / KEY_NAME)


def test_deploy_founds_a_swarm_with_the_recipes_terms_and_those_named(swarm, refused, chain, new_home, new_identity):
    home, guardian = new_home(), new_identity().address
    asked = ("deploy", "--recipe", "tiny", "--rpc", chain.url, "--home", home, "--guardian", guardian, "--delay", 60)
    dry = swarm(*asked, "--dry-run")
    assert "to        a new contract" in dry.out and guardian in dry.out and "nothing was sent" in dry.out
    assert remembered(home) is None
    told = swarm(*asked, "--challenge", 7, "--json").json
    assert told["chain_id"] == chain.chain_id and told["transactions"][0]["to"] is None
    assert 0 < told["transactions"][0]["gas_used"] <= told["transactions"][0]["gas_at_most"]
    terms = Registry(chain, told["contract"]).terms()
    recipe = catalogue.find("tiny")
    assert (terms.recipe_hash, terms.round_seconds) == (recipe.hash(), recipe.timing.round_s)
    assert (terms.guardian, terms.governance) == (guardian, key_of(home).address)
    assert (terms.delay_seconds, terms.challenge_seconds) == (60, 7)
    assert "belongs to the swarm" in refused(*asked)


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (("--delay", 1), "they must be two accounts"),
        (("--tokens-per-point", 1), "belong together"),
        (("--reward-token", "0x" + "ab" * 20, "--tokens-per-point", 1), "no contract at 0x"),
        (("--challenge", 2**32), "cannot have the terms"),
        (("--recipe", "nonsense"), "there is no recipe"),
    ],
)
def test_terms_that_do_not_fit_are_refused_before_anything_is_sent(refused, chain, new_home, terms, sentence):
    home = new_home()
    before = chain.balance(key_of(home).address)
    assert sentence in refused("deploy", "--recipe", "tiny", "--rpc", chain.url, "--home", home, *terms)
    assert chain.balance(key_of(home).address) == before and remembered(home) is None


def test_a_peer_registers_itself(swarm, registry, new_home):
    home = new_home(registry)
    identity = key_of(home)
    dry = swarm("register", "--home", home, "--dry-run")
    assert "function  register" in dry.out and registry.address in dry.out and "gas       at most" in dry.out
    assert registry.peer_count() == 0
    where = ("--rpc", registry.chain.url, "--contract", registry.address)
    assert f"{identity.address} is not registered" in swarm("registered", "--peer", identity.peer_id, *where).out
    told = swarm("register", "--home", home)
    assert f"the peer {identity.peer_id} is registered" in told.out and "mined in block" in told.out
    found = swarm("registered", "--home", home, "--json").json
    assert found["registered"] is True and found["owner"] is None and found["transactions"] == []
    assert registry.peers() == [identity.peer_id]
    again = swarm("register", "--home", home, "--json").json
    assert again["transactions"] == [] and "nothing to do" in again["notes"][0]


def test_a_wallet_pays_for_a_new_peer(swarm, registry, chain, tmp_path, keystore):
    home = tmp_path / "fresh"
    where = ("--home", home, "--rpc", chain.url, "--contract", registry.address, "--keystore", keystore)
    assert "registerFor" in swarm("register", *where, "--dry-run").out
    assert not home.exists()
    swarm("register", *where)
    identity = key_of(home)
    assert registry.peers() == [identity.peer_id] and chain.balance(identity.address) == 0
    assert remembered(home).contract == registry.address
    assert (home / KEY_NAME).stat().st_mode & 0o777 == 0o600


def test_check_in_keeps_the_peers_say(swarm, refused, registry, new_home):
    home = new_home(registry)
    assert "is not a registered peer" in refused("check-in", "--home", home)
    swarm("register", "--home", home)
    assert swarm("check-in", "--home", home, "--json").json["active"]


@pytest.mark.parametrize("payer", ["owner", "peer"])
def test_an_owner_links_and_unlinks_a_peer(swarm, refused, registry, new_home, keystore, owner, payer):
    home = new_home(registry)
    peer = key_of(home).address
    asked = ("--home", home, "--keystore", keystore, "--payer", payer)
    assert "is not a registered peer" in refused("owner", "link", *asked)
    swarm("register", "--home", home)
    dry = swarm("owner", "link", *asked, "--dry-run")
    assert "linkOwner" in dry.out and Ownership(registry).owner_of(peer) is None
    told = swarm("owner", "link", *asked, "--json").json
    assert told["owner"].lower() == owner.lower() and Ownership(registry).peer_count_of(owner) == 1
    assert told["transactions"][0]["from"].lower() == (peer if payer == "peer" else owner).lower()
    assert "nothing to do" in swarm("owner", "link", *asked).out
    told = swarm("owner", "unlink", *asked, "--json").json
    assert told["owner"] is None and Ownership(registry).peer_count_of(owner) == 0
    assert "has no owner" in swarm("owner", "unlink", *asked).out


def test_a_peer_consents_on_its_own_machine(swarm, refused, registry, chain, new_home, keystore, owner):
    home = new_home(registry)
    swarm("register", "--home", home)
    where = ("--rpc", chain.url, "--contract", registry.address, "--keystore", keystore)
    printed = swarm("owner", "link", "--home", home, "--print-signature", "--owner", owner, "--json").json
    assert printed["transactions"] == []
    consent = ("--peer", printed["peer"], "--peer-signature", printed["peer_signature"])
    assert "--deadline" in refused("owner", "link", *where, *consent)
    assert "sign again" in refused("owner", "link", *where, *consent, "--deadline", printed["deadline"] + 1)
    swarm("owner", "link", *where, *consent, "--deadline", printed["deadline"])
    assert Ownership(registry).owner_of(printed["peer"]).lower() == owner.lower()


def test_an_expired_consent_is_refused(swarm, refused, registry, chain, new_home, keystore, owner):
    home = new_home(registry)
    swarm("register", "--home", home)
    consent = ("owner", "link", "--home", home, "--print-signature", "--owner", owner, "--deadline", 1000, "--json")
    signature = swarm(*consent).json["peer_signature"]
    where = ("--rpc", chain.url, "--contract", registry.address, "--keystore", keystore)
    peer = key_of(home).peer_id
    expired = ("owner", "link", *where, "--peer", peer, "--peer-signature", signature, "--deadline", 1000)
    assert "was good until 1000" in refused(*expired)
    assert Ownership(registry).owner_of(key_of(home).address) is None


def test_an_owner_replaces_a_lost_key(swarm, refused, registry, chain, new_home, tmp_path, keystore, owner):
    old = new_home(registry)
    swarm("register", "--home", old)
    lost, new = key_of(old), tmp_path / "new"
    where = ("--rpc", chain.url, "--contract", registry.address, "--keystore", keystore)
    asked = ("owner", "rotate", *where, "--old", lost.peer_id, "--home", new)
    assert "is not the owner" in refused(*asked, "--dry-run") and not new.exists()
    swarm("owner", "link", "--home", old, "--keystore", keystore)
    assert "rotateKey" in swarm(*asked, "--dry-run").out and not new.exists()
    told = swarm(*asked, "--json").json
    assert told["peer_id"] == key_of(new).peer_id and told["owner"].lower() == owner.lower()
    assert registry.peers() == [told["peer_id"]] and remembered(new).contract == registry.address
    assert "cannot come back" in refused("register", "--home", old)


def test_only_the_guardian_pauses_and_only_governance_goes_on(swarm, refused, chain, founder, new_home, new_identity):
    guard = new_home(name="guard")
    terms = Terms(RECIPE_HASH, 1, 60, delay_seconds=9, guardian=key_of(guard).address)
    registry = deploy(chain, founder, terms)
    remember(guard, registry)
    stranger = new_home(registry, "stranger")
    assert f"{key_of(guard).address.lower()} may" in refused("pause", "--home", stranger).lower()
    assert "function  pause" in swarm("pause", "--home", guard, "--dry-run").out and not Control(registry).is_paused()
    assert swarm("pause", "--home", guard, "--json").json["paused"] and Control(registry).is_paused()
    assert "paused already" in swarm("pause", "--home", guard).out
    assert "the swarm is paused" in refused("register", "--home", stranger)
    assert "may not do this" in refused("unpause", "--home", guard)
    send(chain, founder, Control(registry).unpause())
    assert "is not paused" in swarm("unpause", "--home", guard).out


class Settled:
    """A swarm of two peers with a funded pool and a final epoch, in which they have 5 and 2.5 points."""

    POINTS = (5_000_000, 2_500_000)

    def __init__(self, chain, founder, homes, units) -> None:
        token = send(chain, founder, Transaction(None, TOKEN)).contract_address
        now = chain.head().timestamp
        terms = Terms(RECIPE_HASH, now - 10, 1, 3, challenge_seconds=1, reward_token=token, tokens_per_point=1000)
        self.registry = deploy(chain, founder, terms)
        self.homes = homes
        self.keys = [key_of(home) for home in homes]
        self._chain, self._founder = chain, founder
        if units:
            self.fund(units)
        for home, key in zip(homes, self.keys, strict=True):
            self.registry.register(key)
            remember(home, self.registry)
        self.epoch = self.registry.view("currentEpoch")
        points = {key.peer_id: value for key, value in zip(self.keys, self.POINTS, strict=True)}
        place = {"swarm": "1:0x", "epoch": self.epoch, "previous": None}
        seen = {"manifests": (), "records": (), "audits": {}, "spent": ()}
        self.statement = encode(Statement(protocol=PROTOCOL, points=points, **place, **seen))
        root = MerkleTree({key.address: points[key.peer_id] for key in self.keys}).root
        outcome = Outcome(root, hashlib.sha256(self.statement).digest(), sum(points.values()))
        self.data_hash = outcome.data_hash.hex()
        settlements = Settlements(self.registry)
        self._until(lambda: self.registry.view("currentEpoch") > self.epoch)
        votes = [settlements.sign(key, self.epoch, outcome) for key in self.keys]
        send(chain, founder, settlements.post(self.epoch, votes))

    def fund(self, units: int) -> None:
        send(self._chain, self._founder, self.registry.transaction("fund", units))

    def become_final(self) -> None:
        self._until(lambda: Claims(self.registry).latest_final() == self.epoch)

    def keep_statement(self, home: Path) -> None:
        with closing(Journal(home / JOURNAL_NAME)) as journal:
            journal.keep_paper(self.data_hash, self.statement)

    def _until(self, holds) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.3)
            send(self._chain, self._founder, Transaction(self._founder.address))  # time passes with blocks


def test_points_are_claimed_and_paid_to_the_owner(
    swarm, refused, chain, founder, new_home, new_identity, keystore, owner
):
    settled = Settled(chain, founder, [new_home(name="a"), new_home(name="b")], units=6000)
    registry, (first, second) = settled.registry, settled.homes
    settled.become_final()
    assert "has no statement of epoch" in refused("claim", "--home", first)
    settled.keep_statement(first)
    swarm("owner", "link", "--home", first, "--keystore", keystore)
    assert "has no points in epoch" in refused("claim", "--home", first, "--account", new_identity().address)

    dry = swarm("claim", "--home", first, "--dry-run")
    assert "function  claim" in dry.out and Claims(registry).standings([settled.keys[0].address])[0].settled == 0
    told = swarm("claim", "--home", first)
    assert "has 5 settled points, 5 new" in told.out
    assert f"5000 units of {registry.terms().reward_token} were paid to {owner}".lower() in told.out.lower()
    assert "nothing to claim" in swarm("claim", "--home", first).out

    told = swarm("claim", "--home", first, "--all", "--json").json  # the pool has 1000 left, of 2500
    assert [each["function"] for each in told["transactions"]] == ["claimMany"]
    assert "1000 units" in told["notes"][0] and "1500 are still owed" in told["notes"][0]
    other = key_of(second).address
    assert told["accounts"] == {other: {"settled": 2_500_000, "paid": 1000, "owed": 1500, "payee": other}}
    assert "nothing to claim" in swarm("claim", "--home", first, "--all").out
    settled.fund(500)
    told = swarm("claim", "--home", first, "--account", settled.keys[1].peer_id, "--json").json
    assert told["transactions"][0]["function"] == "payOwed" and "500 units" in told["notes"][0]
    assert other in told["notes"][0]


def test_all_claim_in_batches(swarm, chain, founder, new_home, monkeypatch):
    settled = Settled(chain, founder, [new_home(name="a"), new_home(name="b")], units=0)
    settled.become_final()
    settled.keep_statement(settled.homes[0])
    monkeypatch.setattr(claim, "MAX_CLAIMS", 1)
    told = swarm("claim", "--home", settled.homes[0], "--all", "--json").json
    assert [len(each["arguments"]["claims"]) for each in told["transactions"]] == [1, 1]
    accounts = [key.address for key in settled.keys]
    assert [each.settled for each in Claims(settled.registry).standings(accounts)] == list(Settled.POINTS)


def test_nothing_is_claimed_before_a_settlement_is_final(refused, registry, new_home):
    assert "no settlement of this swarm is final" in refused("claim", "--home", new_home(registry))


def test_a_swarm_that_is_not_there_is_told_in_a_sentence(refused, registry, chain, founder, new_home, tmp_path):
    home = new_home(registry)
    assert "name the swarm" in refused("register", "--home", tmp_path / "none")
    assert "there is no peer in" in refused(
        "check-in", "--home", tmp_path / "none", "--rpc", chain.url, "--contract", registry.address
    )
    assert "name the peer's folder" in refused("claim", "--rpc", chain.url, "--contract", registry.address)
    other = deploy(chain, founder, Terms(RECIPE_HASH, 1, 60))
    assert "belongs to the swarm" in refused("register", "--home", home, "--contract", other.address)
    assert "no contract at" in refused("register", "--rpc", chain.url, "--contract", "0x" + "12" * 20)
    assert "not a contract's address" in refused("register", "--rpc", chain.url, "--contract", "0x12")
    foreign = send(chain, founder, Transaction(None, TOKEN)).contract_address
    assert "no swarm registry" in refused("register", "--rpc", chain.url, "--contract", foreign)
    assert "not an invite" in refused("register", "nonsense")
    (tmp_path / "file").touch()
    named = ("--rpc", chain.url, "--contract", registry.address)
    assert "cannot be read" in refused("register", "--home", "x" * 300, *named)
    assert "cannot be written" in refused("register", "--home", tmp_path / "file" / "below", *named)
    assert "leave --contract out" in refused("register", "swarm:x", *named)
    with closing(Journal(home / JOURNAL_NAME)) as journal:
        journal.put("chain_id", "5")
    assert "lives on chain 5" in refused("register", "--home", home)


def test_who_cannot_pay_is_told_how_much_is_missing(refused, registry, chain, new_identity, tmp_path, monkeypatch):
    monkeypatch.setattr("swarm.chain.client.Chain.faucet", lambda chain, address: False)
    home = tmp_path / "poor"
    sentence = refused("register", "--home", home, "--rpc", chain.url, "--contract", registry.address)
    assert f"{key_of(home).address} has 0 ether" in sentence and "send it at least" in sentence
    assert registry.peer_count() == 0


def test_keys_that_others_can_read_are_refused(refused, registry, new_home, keystore):
    home = new_home(registry)
    (home / KEY_NAME).chmod(0o640)
    assert "chmod 600" in refused("register", "--home", home)
    (home / KEY_NAME).chmod(0o600)
    keystore.chmod(0o644)
    assert "chmod 600" in refused("owner", "link", "--home", home, "--keystore", keystore)


def test_a_wallet_needs_its_password(refused, swarm, registry, new_home, keystore, tmp_path, monkeypatch):
    home = new_home(registry)
    monkeypatch.setenv("SWARM_OWNER_PASSWORD", "wrong")
    assert "does not open the wallet" in refused("owner", "link", "--home", home, "--keystore", keystore)
    monkeypatch.delenv("SWARM_OWNER_PASSWORD")
    monkeypatch.setattr(sys, "stdin", None)
    assert "SWARM_OWNER_PASSWORD_FILE=FILE" in refused("owner", "link", "--home", home, "--keystore", keystore)
    none = tmp_path / "none.json"
    assert "owner create" in refused("owner", "link", "--home", home, "--keystore", none)
    password = tmp_path / "password"
    write_private(password, PASSWORD.encode())
    assert "would be written" in swarm("owner", "create", "--keystore", none, "--dry-run").out and not none.exists()
    swarm("owner", "create", "--keystore", none, "--password-file", password)
    assert none.stat().st_mode & 0o777 == 0o600
    assert "already" in refused("owner", "create", "--keystore", none, "--password-file", password)


@pytest.fixture
def html():
    class Page(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome to the wifi</html>")

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_rpc_that_is_none_is_told_in_a_sentence(refused, html, monkeypatch):
    contract = ("--contract", "0x" + "12" * 20)
    assert "127.0.0.1" in refused("register", "--rpc", html, *contract)
    assert "http or https" in refused("register", "--rpc", "ftp://nowhere", *contract)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        quick = place.Chain
        monkeypatch.setattr(place, "Chain", lambda url, **more: quick(url, timeout_s=0.5, **more))
        port = silent.getsockname()[1]
        assert f"127.0.0.1:{port}" in refused("register", "--rpc", f"http://127.0.0.1:{port}", *contract)


def test_a_home_whose_development_chain_does_not_run_says_so(refused, registry, new_home):
    home = new_home(registry)
    (home / "chain").mkdir()
    with closing(Journal(home / JOURNAL_NAME)) as journal:
        journal.put("rpc", "http://127.0.0.1:9")
    assert "which runs as long as its peer" in refused("register", "--home", home)


@pytest.mark.parametrize(
    "arguments",
    [
        ("owner", "rotate"),
        ("owner", "rotate", "--old", "nonsense"),
        ("owner", "link", "--peer-signature", "0x12"),
        ("owner", "link", "--deadline", "-1"),
        ("claim", "--all", "--account", "0x" + "12" * 20),
    ],
)
def test_a_wrong_command_line_is_refused(arguments):
    with pytest.raises(SystemExit, match="2"):
        command.main(list(arguments))


def test_a_program_gets_an_error_as_json_too(swarm, tmp_path):
    told = swarm("claim", "--home", tmp_path, "--json", status=2)
    assert "name the swarm" in told.json["error"] and told.json["transactions"] == []


def test_the_program_knows_the_commands(monkeypatch, capsys):
    for name in ("deploy", "register", "check-in", "owner", "claim", "pause", "unpause"):
        monkeypatch.setattr(sys, "argv", ["swarm", name, "--help"])
        with pytest.raises(SystemExit, match="0"):
            program.main()
        assert f"usage: swarm {name}" in capsys.readouterr().out


def test_only_the_commands_that_need_them_load_recipes_network_and_model():
    heavy = "{'reasoning_gym', 'hivemind', 'torch'} & set(sys.modules)"
    run = f"import sys; from swarm.onchain import command; print({heavy})"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
