"""The owner's wallet: a key that links peers to a person and receives what they earn.

It rests in a keystore of version 3, which `cast wallet` and other Ethereum programs read and write as well. Its
password comes from a file, from the environment or from the person at the terminal, never from a command line.
"""

import getpass
import json
import os
import sys
from pathlib import Path

from coincurve import PrivateKey
from eth_account import Account as EthAccount

from swarm.errors import SwarmError
from swarm.identity.account import Account
from swarm.identity.files import read_private, write_private

DEFAULT_PATH = Path("~/.swarm/owner.json")
PASSWORD_FILE_VARIABLE = "SWARM_OWNER_PASSWORD_FILE"
PASSWORD_VARIABLE = "SWARM_OWNER_PASSWORD"


class Wallet(Account):
    """An open wallet."""


def create_wallet(path: Path, password: str) -> Wallet:
    """Make a new key and its keystore.

    Raises:
        SwarmError: there is a file already, or it cannot be written.
    """
    path = path.expanduser()
    if path.exists():
        raise SwarmError(f"there is a wallet at {path} already; use it, or name another file with --keystore")
    secret = PrivateKey().secret
    try:
        write_private(path, json.dumps(EthAccount.encrypt(secret, password)).encode())
    except OSError as error:
        raise SwarmError(
            f"the wallet {path} cannot be written: {error.strerror}; name another file with --keystore"
        ) from error
    return Wallet(secret)


def open_wallet(path: Path, password: str) -> Wallet:
    """The wallet in a keystore. This takes about a second, so that passwords cannot be guessed fast.

    Raises:
        SwarmError: there is none, others may read it, it is not a keystore, or the password is another one.
    """
    path = path.expanduser()
    if not path.exists():
        raise SwarmError(f"there is no wallet at {path}; make one, or name its keystore with --keystore")
    try:
        keystore = json.loads(read_private(path, "the wallet"))
        if "crypto" not in {name.lower() for name in keystore}:
            raise ValueError("no part named crypto")
    except (ValueError, TypeError, AttributeError) as error:
        raise SwarmError(f"{path} is not a keystore of version 3 ({error}); name another with --keystore") from error
    try:
        wallet = Wallet(bytes(EthAccount.decrypt(keystore, password)))
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise SwarmError(f"the password does not open the wallet {path}; check it and try again") from error
        raise _damaged(path, error) from error
    except (KeyError, TypeError, NotImplementedError) as error:
        raise _damaged(path, error) from error
    claimed = str(keystore.get("address", wallet.address)).lower().removeprefix("0x")
    if claimed != wallet.address.lower().removeprefix("0x"):
        raise _damaged(path, ValueError(f"it holds the key of {wallet.address}, not of 0x{claimed[:40]}"))
    return wallet


def owner_password(password_file: Path | None = None, *, command: str, new: bool = False) -> str:
    """The password of the owner's wallet: from `password_file`, else from the file named by SWARM_OWNER_PASSWORD_FILE,
    else SWARM_OWNER_PASSWORD, else asked for at the terminal, twice if it is `new`.

    Raises:
        SwarmError: there is no source, and no terminal to ask at: it says to run `command`; or the password is empty.
    """
    named = password_file or os.environ.get(PASSWORD_FILE_VARIABLE)
    if named:
        try:
            password = read_private(Path(named).expanduser(), "the password file").decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise SwarmError(f"the password file {named} is not text in UTF-8") from error
    elif PASSWORD_VARIABLE in os.environ:
        password = os.environ[PASSWORD_VARIABLE]
    elif sys.stdin is not None and sys.stdin.isatty():
        password = getpass.getpass("Password of the owner's wallet: ")
        if new and password != getpass.getpass("Once more: "):
            raise SwarmError("the two passwords differ; try again")
    else:
        raise SwarmError(
            "the owner's wallet needs its password and there is no terminal to ask for it; write it to a file of mode "
            f"600 and run: {PASSWORD_FILE_VARIABLE}=FILE {command}"
        )
    if not password:
        raise SwarmError("the password of the owner's wallet is empty; give one")
    return password


def _damaged(path: Path, error: Exception) -> SwarmError:
    reason = " ".join(str(error).split())[:200]
    return SwarmError(f"the wallet {path} is damaged or of an unknown kind ({reason}); restore it from a copy")
