"""swarm register, swarm check-in, swarm owner: peers and those whom they belong to."""

import argparse
import time

from swarm.chain.ownership import Ownership
from swarm.chain.registry import Registry
from swarm.chain.settlements import Settlements
from swarm.errors import SwarmError
from swarm.identity.account import Account
from swarm.identity.wallet import create_wallet, owner_password
from swarm.onchain.place import identity_for, identity_of, registry_of, remember, wallet_of
from swarm.onchain.session import Session

CONSENT_S = 3600
"""How long a signature is good that is made for a transaction right now; on a busy chain it may take long."""
CARRIED_CONSENT_S = 7 * 86_400
"""How long one is good that is carried to another machine."""


def register(options: argparse.Namespace, session: Session) -> None:
    """The peer pays for itself, or the wallet pays for it."""
    registry = registry_of(options)
    ownership = Ownership(registry)
    identity = identity_for(options.home, dry_run=session.dry_run)
    if ownership.is_registered(identity.address):
        session.note(f"nothing to do: the peer {identity.peer_id} is registered already", peer_id=identity.peer_id)
        return
    payer: Account = wallet_of(options) if options.keystore else identity
    if payer is identity:
        transaction = registry.registration(identity.peer_id)
    else:
        transaction = ownership.register_for(identity, _deadline(registry, CONSENT_S))
    if session.perform(registry.chain, payer, transaction):
        remember(options.home, registry)
        session.note(
            f"the peer {identity.peer_id} is {'' if ownership.is_registered(identity.address) else 'not '}registered; "
            f"registered peers: {registry.peer_count()}",
            peer_id=identity.peer_id,
            peer=identity.address,
        )


def registered(options: argparse.Namespace, session: Session) -> None:
    """Only asks: nothing is sent, and no key is needed where the peer is named."""
    registry = registry_of(options)
    ownership = Ownership(registry)
    peer: str = options.peer or identity_of(options.home).address
    known, owner = ownership.is_registered(peer), ownership.owner_of(peer)
    whose = f"is linked to {owner}" if owner else "has no owner"
    session.note(
        f"the peer {peer} is {'' if known else 'not '}registered, and {whose}",
        peer=peer,
        registered=known,
        owner=owner,
    )


def check_in(options: argparse.Namespace, session: Session) -> None:
    """Keeps the peer's say about this epoch and the next three."""
    registry = registry_of(options)
    identity = identity_of(options.home)
    if session.perform(registry.chain, identity, Settlements(registry).check_in()):
        epoch = registry.view("currentEpoch")
        active = registry.view("isActive", identity.address, epoch)
        session.note(
            f"the peer {identity.peer_id} {'has a' if active else 'has no'} say about epoch {epoch}",
            peer_id=identity.peer_id,
            epoch=epoch,
            active=active,
        )


def create(options: argparse.Namespace, session: Session) -> None:
    """A wallet is a file; the chain hears of it when it is used."""
    if session.dry_run:
        session.note(f"a new wallet would be written to {options.keystore}")
        return
    password = owner_password(options.password_file, command="python -m swarm owner create", new=True)
    wallet = create_wallet(options.keystore, password)
    session.note(f"the owner's wallet {wallet.address} is in {options.keystore}; keep a copy", owner=wallet.address)


def link(options: argparse.Namespace, session: Session) -> None:
    """Both consent: with both keys here, or with a signature that the peer's machine printed."""
    registry = registry_of(options)
    ownership = Ownership(registry)
    if options.print_signature:
        _print_link_signature(options, session, registry, ownership)
        return
    if options.peer_signature is not None:
        if options.peer is None or options.deadline is None:
            raise SwarmError("--peer-signature goes with the --peer and the --deadline that were printed with it")
        if options.payer == "peer":
            raise SwarmError("the peer's key is not here, so it cannot pay; leave --payer out")
        peer, identity = options.peer, None
    else:
        identity = identity_of(options.home)
        peer = identity.address
    wallet = wallet_of(options)
    if ownership.owner_of(peer) == wallet.address:
        session.note(f"nothing to do: the peer {peer} is linked to {wallet.address} already", peer=peer)
        return
    deadline = options.deadline or _deadline(registry, CONSENT_S)
    payer: Account = wallet
    if identity is None:
        transaction = ownership.link(peer, wallet.address, deadline, peer_signature=options.peer_signature)
    elif options.payer == "peer":
        payer = identity
        signature = ownership.sign_link(wallet, peer, wallet.address, deadline)
        transaction = ownership.link(peer, wallet.address, deadline, owner_signature=signature)
    else:
        signature = ownership.sign_link(identity, peer, wallet.address, deadline)
        transaction = ownership.link(peer, wallet.address, deadline, peer_signature=signature)
    if session.perform(registry.chain, payer, transaction):
        _tell_owner(session, ownership, peer, wallet.address)


def unlink(options: argparse.Namespace, session: Session) -> None:
    """The owner alone decides."""
    registry = registry_of(options)
    ownership = Ownership(registry)
    peer: str = options.peer or identity_of(options.home).address
    if ownership.owner_of(peer) is None:
        session.note(f"nothing to do: the peer {peer} has no owner", peer=peer)
        return
    wallet = wallet_of(options)
    if options.payer == "peer":
        payer: Account = identity_of(options.home)
        transaction = ownership.unlink_for(wallet, peer, _deadline(registry, CONSENT_S))
    else:
        payer, transaction = wallet, ownership.unlink(peer)
    if session.perform(registry.chain, payer, transaction):
        _tell_owner(session, ownership, peer, wallet.address)


def rotate(options: argparse.Namespace, session: Session) -> None:
    """The owner puts the key of a new home in the place of a lost or stolen one."""
    registry = registry_of(options)
    ownership = Ownership(registry)
    new = identity_for(options.home, dry_run=session.dry_run)
    wallet = wallet_of(options)
    transaction = ownership.rotate(options.old, new, wallet.address, _deadline(registry, CONSENT_S))
    if session.perform(registry.chain, wallet, transaction):
        remember(options.home, registry)
        in_place = ownership.is_registered(new.address) and not ownership.is_registered(options.old)
        session.note(
            f"the key of {options.old} is {'retired' if in_place else 'not replaced'}; "
            f"in its place is {new.peer_id} with the account {new.address}",
            old_peer=options.old,
            peer=new.address,
            peer_id=new.peer_id,
        )
        _tell_owner(session, ownership, new.address, wallet.address)


def _print_link_signature(
    options: argparse.Namespace, session: Session, registry: Registry, ownership: Ownership
) -> None:
    if options.owner is None:
        raise SwarmError("name the account that is to own the peer with --owner")
    identity = identity_of(options.home)
    deadline = options.deadline or _deadline(registry, CARRIED_CONSENT_S)
    signature = ownership.sign_link(identity, identity.address, options.owner, deadline).hex()
    session.note(
        f"on the machine of {options.owner}, within {(deadline - int(time.time())) // 3600} hours, with the "
        f"swarm's invite in the place of INVITE:\npython -m swarm owner link INVITE --peer {identity.address} "
        f"--deadline {deadline} --peer-signature 0x{signature}",
        peer=identity.address,
        owner=options.owner,
        deadline=deadline,
        peer_signature="0x" + signature,
    )


def _tell_owner(session: Session, ownership: Ownership, peer: str, asked: str) -> None:
    owner = ownership.owner_of(peer)
    whose = f"is linked to the owner {owner}" if owner else "has no owner"
    session.note(
        f"the peer {peer} {whose}; peers of {asked}: {ownership.peer_count_of(asked)}",
        peer=peer,
        owner=owner,
    )


def _deadline(registry: Registry, seconds: int) -> int:
    """Counted from the later of the two clocks: a development chain's may run ahead."""
    return max(int(time.time()), registry.chain.head().timestamp) + seconds
