"""The command lines of the commands around the registry contract.

Each command says its transaction with gas and cost before it sends it, and what the chain has afterwards.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from eth_utils.address import is_address, to_checksum_address

from swarm.chain.registry import NO_ADDRESS
from swarm.errors import SwarmError
from swarm.identity.key import address_of
from swarm.identity.wallet import DEFAULT_PATH
from swarm.onchain import claim, control, peers
from swarm.onchain.session import Session


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="swarm", allow_abbrev=False)
    commands = p.add_subparsers(dest="command", required=True)
    common, place, home, wallet = _common(), _place(), _home(), _wallet()

    deploy = commands.add_parser(
        "deploy", parents=[common, home, wallet], help="found a swarm: put its contract on a chain"
    )
    deploy.set_defaults(run=control.deploy)
    deploy.add_argument("--rpc", metavar="URL", required=True, help="JSON-RPC of the chain")
    _add_terms(deploy)

    register = commands.add_parser("register", parents=[common, place, home, wallet], help="make a key a peer")
    register.set_defaults(run=peers.register)
    registered = commands.add_parser(
        "registered", parents=[common, place, home], help="whether a peer is registered, and whose it is"
    )
    registered.set_defaults(run=peers.registered)
    registered.add_argument("--peer", type=_account, help="an account or peer id (default: the peer in --home)")
    check_in = commands.add_parser("check-in", parents=[common, place, home], help="keep a peer's say in settlements")
    check_in.set_defaults(run=peers.check_in)

    claiming = commands.add_parser("claim", parents=[common, place, home, wallet], help="settle points, and pay them")
    claiming.set_defaults(run=claim.claim)
    whose = claiming.add_mutually_exclusive_group()
    whose.add_argument("--account", type=_account, help="an account or peer id (default: the peer in --home)")
    whose.add_argument("--all", action="store_true", help="for every account that has something to claim")

    for name, run, who in (("pause", control.pause, "guardian"), ("unpause", control.unpause, "governance")):
        brake = commands.add_parser(
            name, parents=[common, place, home, wallet], help=f"for the {who}: {name} the swarm"
        )
        brake.set_defaults(run=run)

    owner = commands.add_parser("owner", help="the wallet that a peer's pay goes to")
    _add_owner(owner.add_subparsers(dest="subcommand", required=True), common, place, home)
    return p


def main(arguments: Sequence[str]) -> int:
    """Run a command; the exit status is 2 for an error that a person can mend."""
    options = parser().parse_args(arguments)
    session = Session(dry_run=options.dry_run, as_json=options.json)
    try:
        options.run(options, session)
    except SwarmError as error:
        session.end(str(error))
        print(f"swarm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        stopped = "interrupted; a transaction that was sent may still be mined: look before you send it again"
        session.end(stopped)
        print(f"swarm: {stopped}", file=sys.stderr)
        return 130
    session.end()
    return 0


def _common() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(add_help=False)
    p.add_argument("--dry-run", action="store_true", help="ask the chain what it would cost, and send nothing")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def _place() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(add_help=False)
    p.add_argument("invite", nargs="?", help="the swarm's invite (default: the swarm that --home belongs to)")
    p.add_argument("--rpc", metavar="URL", help="JSON-RPC of the swarm's chain")
    p.add_argument("--contract", metavar="ADDR", help="the swarm's contract on the chain of --rpc")
    return p


def _home() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(add_help=False)
    p.add_argument("--home", type=_folder, metavar="DIR", help="the peer's folder, with its key")
    return p


def _wallet(default: Path | None = None) -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(add_help=False)
    p.add_argument(
        "--keystore",
        type=_folder,
        default=default,
        metavar="FILE",
        help=f"the owner's wallet (default: {DEFAULT_PATH})" if default else "the owner's wallet, which then pays",
    )
    p.add_argument("--password-file", type=_folder, metavar="FILE", help="its password, in a file of mode 600")
    return p


def _add_terms(p: argparse.ArgumentParser) -> None:
    p.add_argument("--recipe", help="a recipe file, or the name of a shipped one (default: as for swarm join)")
    terms = p.add_argument_group("terms")
    terms.add_argument("--governance", type=_account, help="who announces changes (default: who pays)")
    terms.add_argument("--guardian", type=_account, help="who can pause (default: who pays)")
    terms.add_argument("--delay", type=_amount, default=0, metavar="S", help="before changes apply (default: 0)")
    terms.add_argument("--challenge", type=_amount, metavar="S", help="before settlements are final (default: recipe)")
    terms.add_argument("--reward-token", type=_account, default=NO_ADDRESS, metavar="ADDR", help="(default: none)")
    terms.add_argument("--tokens-per-point", type=_amount, default=0, metavar="N", help="in the token's units")
    terms.add_argument("--stake-token", type=_account, default=NO_ADDRESS, metavar="ADDR", help="(default: none)")
    terms.add_argument("--stake-amount", type=_amount, default=0, metavar="N", help="in the token's units")
    terms.add_argument("--unbonding", type=_amount, default=0, metavar="S", help="before stakes return (default: 0)")
    terms.add_argument("--bootstrap", action="append", default=[], metavar="MULTIADDR", help="repeat it for several")


def _add_owner(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    common: argparse.ArgumentParser,
    place: argparse.ArgumentParser,
    home: argparse.ArgumentParser,
) -> None:
    wallet = _wallet(DEFAULT_PATH)
    create = commands.add_parser("create", parents=[common, wallet], help="make a wallet")
    create.set_defaults(run=peers.create)

    link = commands.add_parser("link", parents=[common, place, home, wallet], help="link a peer to its owner")
    link.set_defaults(run=peers.link)
    two = link.add_argument_group("on two machines")
    two.add_argument("--print-signature", action="store_true", help="on the peer's: print its consent, send nothing")
    two.add_argument("--owner", type=_account, metavar="ADDR", help="the owner that it consents to")
    two.add_argument("--peer", type=_account, help="on the owner's: the account or peer id of the peer")
    two.add_argument("--peer-signature", type=_signature, metavar="HEX", help="what the peer's machine printed")
    two.add_argument("--deadline", type=_amount, metavar="T", help="of the signature, in unix seconds")

    unlink = commands.add_parser("unlink", parents=[common, place, home, wallet], help="end the link of a peer")
    unlink.set_defaults(run=peers.unlink)
    unlink.add_argument("--peer", type=_account, help="the account or peer id of the peer (default: that in --home)")
    for p in (link, unlink):
        p.add_argument("--payer", choices=("owner", "peer"), default="owner", help="who pays the gas (default: owner)")

    rotate = commands.add_parser(
        "rotate", parents=[common, place, home, wallet], help="put the key of a new --home in the place of a lost one"
    )
    rotate.set_defaults(run=peers.rotate)
    rotate.add_argument("--old", type=_account, required=True, help="the account or peer id of the lost key")


def _folder(text: str) -> Path:
    return Path(text).expanduser()


def _account(text: str) -> str:
    if is_address(text):
        return to_checksum_address(text)
    try:
        return address_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is neither an account (0x and 40 hexadecimal digits) nor a peer id (16Uiu2HA...)"
        ) from None


def _amount(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,77}", text):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number from 0 on")
    return int(text)


def _signature(text: str) -> bytes:
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{130}", text):
        raise argparse.ArgumentTypeError("a signature has 65 bytes, which are 0x and 130 hexadecimal digits")
    return bytes.fromhex(text.removeprefix("0x"))
