"""The owner's wallet: its keystore, its password, and the same signatures that other programs make."""

import getpass
import io
import json
import stat
import subprocess
import sys

import pytest
from eth_account import Account as EthAccount

from swarm.errors import SwarmError
from swarm.identity.key import Identity
from swarm.identity.typed import typed_digest
from swarm.identity.wallet import Wallet, create_wallet, open_wallet, owner_password
from tests.foundry.tools import tool

PASSWORD = "correct horse"
COMMAND = "python -m swarm owner link"
DOMAIN = {"name": "Swarm", "version": "1", "chainId": 7, "verifyingContract": "0x" + "11" * 20}
TYPES = {"Link": [{"name": "peer", "type": "address"}, {"name": "epochs", "type": "uint64[]"}]}
MESSAGE = {"peer": "0x" + "22" * 20, "epochs": [1, 2, 3]}


@pytest.fixture(autouse=True)
def no_password_around(monkeypatch):
    monkeypatch.delenv("SWARM_OWNER_PASSWORD", raising=False)
    monkeypatch.delenv("SWARM_OWNER_PASSWORD_FILE", raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("wallet") / "sub" / "owner.json"
    return path, create_wallet(path, PASSWORD)


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return path


def cast(*arguments, **more):
    command = [str(tool("cast")), "wallet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, **more).stdout.strip()


def test_made_once_and_for_its_user_alone(made):
    path, wallet = made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and list(path.parent.iterdir()) == [path]
    assert open_wallet(path, PASSWORD).address == wallet.address
    before = path.read_bytes()
    with pytest.raises(SwarmError, match=r"there is a wallet at .* already"):
        create_wallet(path, "other")
    assert path.read_bytes() == before


def test_a_wrong_password_is_said_without_it(made):
    with pytest.raises(SwarmError, match="password does not open the wallet") as caught:
        open_wallet(made[0], "secret guess")
    assert "secret guess" not in str(caught.value)


def test_what_is_no_wallet(made, tmp_path):
    path = tmp_path / "owner.json"
    with pytest.raises(SwarmError, match="there is no wallet at"):
        open_wallet(path, PASSWORD)
    good = json.loads(made[0].read_text())
    for content in ("", "[]", "7", "{}", "\\", '{"crypto": 3}', json.dumps({**good, "version": 9})):
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(SwarmError, match=r"not a keystore of version 3|is damaged or of an unknown kind") as caught:
            open_wallet(path, PASSWORD)
        assert "\n" not in str(caught.value)
    path.write_text(json.dumps({**good, "address": "22" * 20}))
    with pytest.raises(SwarmError, match=f"holds the key of {made[1].address}, not of 0x2222"):
        open_wallet(path, PASSWORD)
    path.chmod(0o640)
    with pytest.raises(SwarmError, match="chmod 600"):
        open_wallet(path, PASSWORD)
    with pytest.raises(SwarmError, match=r"cannot be written.*--keystore"):
        create_wallet(path / "below" / "owner.json", PASSWORD)


def test_the_secret_is_not_shown():
    wallet = Wallet(b"\x01" * 32)
    assert repr(wallet) == f"Wallet({wallet.address})" and not hasattr(wallet, "secret")


def test_cast_opens_our_keystore_and_signs_the_same(made, password_file, tmp_path):
    path, wallet = made
    unlock = ("--keystore", path, "--password-file", password_file)
    assert cast("address", *unlock) == wallet.address
    fields = [{"name": "name", "type": "string"}, {"name": "version", "type": "string"}]
    fields += [{"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"}]
    types = {"EIP712Domain": fields, **TYPES}
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"types": types, "primaryType": "Link", "domain": DOMAIN, "message": MESSAGE}))
    signature = cast("sign", "--data", "--from-file", data, *unlock)
    assert bytes.fromhex(signature[2:]) == wallet.sign_typed_data(DOMAIN, TYPES, MESSAGE)


def test_a_keystore_of_cast_opens_here(tmp_path):
    said = cast("new", tmp_path, "owner", "--json", env={"CAST_PASSWORD": PASSWORD, "HOME": str(tmp_path)})
    keystore = tmp_path / "owner"
    keystore.chmod(0o600)
    assert open_wallet(keystore, PASSWORD).address == json.loads(said)[0]["address"]


def test_typed_data_is_signed_alike_by_peer_and_owner():
    secret = b"\x01" * 32
    expected = EthAccount.sign_typed_data(secret, DOMAIN, TYPES, MESSAGE)
    assert Identity(secret).sign_typed_data(DOMAIN, TYPES, MESSAGE) == bytes(expected.signature)
    assert Wallet(secret).sign_typed_data(DOMAIN, TYPES, MESSAGE) == bytes(expected.signature)
    assert typed_digest(DOMAIN, TYPES, MESSAGE) == bytes(expected.message_hash)
    assert expected.signature[64] in (27, 28)
    assert typed_digest({**DOMAIN, "chainId": 8}, TYPES, MESSAGE) != typed_digest(DOMAIN, TYPES, MESSAGE)


def test_where_the_password_comes_from(password_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SWARM_OWNER_PASSWORD", "from the environment")
    assert owner_password(command=COMMAND) == "from the environment"
    other = tmp_path / "other"
    other.write_text("from a named file\r\n")
    other.chmod(0o600)
    monkeypatch.setenv("SWARM_OWNER_PASSWORD_FILE", str(other))
    assert owner_password(command=COMMAND) == "from a named file"
    assert owner_password(password_file, command=COMMAND) == PASSWORD


def test_a_bad_password_file(password_file, tmp_path):
    password_file.chmod(0o644)
    with pytest.raises(SwarmError, match=r"the password file .* chmod 600"):
        owner_password(password_file, command=COMMAND)
    with pytest.raises(SwarmError, match=r"the password file .* cannot be read: No such file"):
        owner_password(tmp_path / "none", command=COMMAND)
    for content, words in ((b"\n", "is empty"), (b"\xff\xfe", "not text")):
        password_file.write_bytes(content)
        password_file.chmod(0o600)
        with pytest.raises(SwarmError, match=words):
            owner_password(password_file, command=COMMAND)


def test_without_a_terminal_the_command_to_run_is_told(monkeypatch):
    for stdin in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(SwarmError, match=f"run: SWARM_OWNER_PASSWORD_FILE=FILE {COMMAND}$"):
            owner_password(command=COMMAND)


def test_a_person_is_asked_and_a_new_password_twice(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    answers = []
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: answers.pop(0))
    answers += ["one"]
    assert owner_password(command=COMMAND) == "one"
    answers += ["one", "one"]
    assert owner_password(command=COMMAND, new=True) == "one"
    answers += ["one", "two"]
    with pytest.raises(SwarmError, match="differ"):
        owner_password(command=COMMAND, new=True)
    answers += [""]
    with pytest.raises(SwarmError, match="is empty"):
        owner_password(command=COMMAND)
