"""swarm deploy, swarm pause, swarm unpause: a swarm's founding, and its brake."""

import argparse
from dataclasses import replace

from swarm.chain.client import Chain
from swarm.chain.control import Control
from swarm.chain.registry import founded, founding
from swarm.errors import SwarmError
from swarm.identity.account import Account
from swarm.onchain.place import identity_for, identity_of, registry_of, remember, remembered, wallet_of
from swarm.onchain.session import Session


def deploy(options: argparse.Namespace, session: Session) -> None:
    """The payer is the founder; the terms are the recipe's, and those that are named."""
    # Imported here: recipes and the network take seconds, and a pause should not wait for them.
    from swarm.recipe import catalogue
    from swarm.round.founding import terms_of

    recipe = catalogue.find(options.recipe or catalogue.DEFAULT)
    terms = terms_of(recipe)
    terms = replace(
        terms,
        challenge_seconds=terms.challenge_seconds if options.challenge is None else options.challenge,
        delay_seconds=options.delay,
        governance=options.governance,
        guardian=options.guardian,
        reward_token=options.reward_token,
        tokens_per_point=options.tokens_per_point,
        stake_token=options.stake_token,
        stake_amount=options.stake_amount,
        unbonding_seconds=options.unbonding,
        bootstrap=tuple(options.bootstrap),
    )
    known = remembered(options.home) if options.home else None
    if known is not None:
        raise SwarmError(
            f"the home {options.home} belongs to the swarm {known.chain_id}:{known.contract} already; "
            "name another folder with --home"
        )
    chain = Chain(options.rpc)
    payer = wallet_of(options) if options.keystore else identity_for(options.home, dry_run=session.dry_run)
    receipt = session.perform(chain, payer, founding(terms, payer.address))
    if receipt is None:
        return
    registry = founded(chain, receipt)
    session.note(
        f"the swarm {chain.chain_id}:{registry.address} is founded, with the recipe {recipe.name} and "
        f"{registry.peer_count()} peers",
        contract=registry.address,
        chain_id=chain.chain_id,
    )
    if options.home is None:
        where = f"--rpc URL --contract {registry.address}"
    else:
        remember(options.home, registry)
        where = f"--home {options.home} --rpc URL"
    session.note(f"start its first peer with: python -m swarm.join {where} --recipe {options.recipe or recipe.name}")


def pause(options: argparse.Namespace, session: Session) -> None:
    """For the guardian."""
    registry = registry_of(options)
    control = Control(registry)
    if control.is_paused():
        session.note("nothing to do: the swarm is paused already", paused=True)
        return
    if session.perform(registry.chain, _signer(options), control.pause()):
        _tell(session, control)


def unpause(options: argparse.Namespace, session: Session) -> None:
    """For governance."""
    registry = registry_of(options)
    control = Control(registry)
    if not control.is_paused():
        session.note("nothing to do: the swarm is not paused", paused=False)
        return
    if session.perform(registry.chain, _signer(options), control.unpause()):
        _tell(session, control)


def _signer(options: argparse.Namespace) -> Account:
    return wallet_of(options) if options.keystore else identity_of(options.home)


def _tell(session: Session, control: Control) -> None:
    paused = control.is_paused()
    state = (
        f"is paused; {control.governance()} can end that with: python -m swarm unpause" if paused else "is not paused"
    )
    session.note(f"the swarm {state}", paused=paused)
