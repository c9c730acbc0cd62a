"""Which swarm a command is about, and whose key it uses. A home may be that of a peer that runs meanwhile."""

import argparse
from contextlib import closing
from pathlib import Path

from coincurve import PrivateKey

from swarm.chain.client import Chain, ChainUnavailable
from swarm.chain.registry import Registry
from swarm.errors import SwarmError
from swarm.identity.key import Identity, load_or_create
from swarm.identity.wallet import DEFAULT_PATH, Wallet, open_wallet, owner_password
from swarm.journal.journal import Journal
from swarm.round.home import JOURNAL_NAME, KEY_NAME

_NO_SWARM = "name the swarm: give its invite, the --home of one of its peers, or --rpc and --contract"


def registry_of(options: argparse.Namespace) -> Registry:
    """The swarm that an invite, `--rpc` and `--contract`, or the peer's home name.

    Raises:
        SwarmError: they name none, or two, or it cannot be reached.
    """
    known = remembered(options.home) if options.home else None
    rpc, contract, chain_id = options.rpc, options.contract, None
    if options.invite:
        if contract:
            raise SwarmError("the invite names the contract already; leave --contract out")
        from swarm.network.invite import Invite  # takes seconds, as it needs the network

        invite = Invite.decode(options.invite)
        rpc, contract, chain_id = rpc or invite.chain_rpc, invite.contract, invite.chain_id
    elif known is not None:
        rpc, contract, chain_id = rpc or known.rpc, contract or known.contract, known.chain_id
    if not rpc or not contract:
        raise SwarmError(_NO_SWARM)
    try:
        registry = Registry(Chain(rpc, expected_chain_id=chain_id), contract)
    except ChainUnavailable as error:
        if known is None or rpc != known.rpc or not (options.home / "chain").is_dir():
            raise
        raise SwarmError(
            f"{error}; it is the development chain of {options.home}, which runs as long as its peer: start that"
        ) from error
    if known is not None:
        known.require(registry)
    return registry


class Remembered:
    """The swarm of a home."""

    def __init__(self, home: Path, rpc: str, chain_id: int, contract: str) -> None:
        self._home = home
        self.rpc = rpc
        self.chain_id = chain_id
        self.contract = contract

    def require(self, registry: Registry) -> None:
        """Raises SwarmError where the registry is that of another swarm."""
        chain_id = registry.chain.chain_id
        if (chain_id, registry.address.lower()) != (self.chain_id, self.contract.lower()):
            raise SwarmError(
                f"the home {self._home} belongs to the swarm {self.chain_id}:{self.contract}, "
                f"not to {chain_id}:{registry.address}; name another folder with --home"
            )


def remembered(home: Path) -> Remembered | None:
    """The swarm that a home belongs to, if it does to any."""
    if not _is_there(home / JOURNAL_NAME):
        return None
    with closing(Journal(home / JOURNAL_NAME)) as journal:
        rpc, chain_id, contract = (journal.get(key) for key in ("rpc", "chain_id", "contract"))
    return Remembered(home, rpc, int(chain_id), contract) if rpc and chain_id and contract else None


def remember(home: Path, registry: Registry) -> None:
    """From now on the home belongs to this swarm."""
    with closing(Journal(home / JOURNAL_NAME)) as journal:
        journal.put("contract", registry.address)
        journal.put("chain_id", str(registry.chain.chain_id))
        journal.put("rpc", registry.chain.url)


def statement_of(home: Path, data_hash: str) -> bytes | None:
    """The statement of a settlement, where the peer has it."""
    if not _is_there(home / JOURNAL_NAME):
        return None
    with closing(Journal(home / JOURNAL_NAME)) as journal:
        return journal.paper(data_hash)


def identity_of(home: Path | None) -> Identity:
    """The key of the peer that lives in a home."""
    if home is None:
        raise SwarmError("name the peer's folder with --home")
    if not _is_there(home / KEY_NAME):
        raise SwarmError(f"there is no peer in {home}, as it has no {KEY_NAME}; name the peer's folder with --home")
    return load_or_create(home / KEY_NAME)


def identity_for(home: Path | None, *, dry_run: bool) -> Identity:
    """The key of a home, made where there is none yet; a dry run makes one that nobody keeps.

    It is kept before it is used, since a key that is registered must not be lost.
    """
    if home is None or _is_there(home / KEY_NAME):
        return identity_of(home)
    if dry_run:
        return Identity(PrivateKey().secret)
    try:
        return load_or_create(home / KEY_NAME)
    except OSError as error:
        raise SwarmError(f"the home {home} cannot be written: {error.strerror}; name another with --home") from error


def wallet_of(options: argparse.Namespace) -> Wallet:
    """The owner's wallet, opened with its password."""
    path = (options.keystore or DEFAULT_PATH).expanduser()
    if not _is_there(path):
        raise SwarmError(f"there is no wallet at {path}; make one with: python -m swarm owner create --keystore {path}")
    return open_wallet(path, owner_password(options.password_file, command=f"python -m swarm {options.command} ..."))


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise SwarmError(f"{path} cannot be read: {error.strerror}; name a place that you may use") from error
