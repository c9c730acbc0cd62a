"""The invite: one string that holds all a newcomer needs to find a swarm.

Promise: `Invite.decode(invite.encode()) == invite`, and any other text, however it was cut or mistyped, is answered
with one sentence. An invite holds no secret.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from swarm.errors import SwarmError
from swarm.network.addresses import check_address

PREFIX = "swarm:"
MAX_CHARS = 4096
MAX_BOOTSTRAP = 16
_VERSION = 1
_CHECKSUM_BYTES = 4
_MAX_URL_CHARS = 512
_CONTRACT = re.compile(r"0x[0-9a-fA-F]{40}")
_ASK = "; ask for the whole invite again, it is one line that begins with swarm:"


@dataclass(frozen=True)
class Invite:
    """An http(s) or ws(s) URL, a chain id, an address 0x... (URL and address empty: no chain), and multiaddrs."""

    chain_rpc: str
    chain_id: int
    contract: str
    bootstrap: tuple[str, ...] = ()

    def encode(self) -> str:
        """The invite as text. Raises SwarmError if a field is not fit for an invite."""
        self._check()
        fields = [self.chain_rpc, self.chain_id, self.contract, list(self.bootstrap)]
        body = bytes([_VERSION]) + json.dumps(fields, separators=(",", ":")).encode()
        text = PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).rstrip(b"=").decode()
        if len(text) > MAX_CHARS:
            raise SwarmError(
                f"the invite would have {len(text)} characters, more than {MAX_CHARS}; give it fewer bootstraps"
            )
        return text

    @classmethod
    def decode(cls, text: str) -> "Invite":
        """Read an invite. Raises SwarmError with one sentence for anything that is not one."""
        text = text.strip()
        if not text.startswith(PREFIX):
            raise SwarmError(f"this is not an invite: it does not begin with {PREFIX}{_ASK}")
        if len(text) > MAX_CHARS:
            raise SwarmError(f"this is not an invite: it has {len(text)} characters, more than {MAX_CHARS}{_ASK}")
        packed = text[len(PREFIX) :]
        if not re.fullmatch(r"[A-Za-z0-9_-]*", packed):
            raise SwarmError(f"the invite has characters that no invite has{_ASK}")
        try:
            raw = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        except (binascii.Error, ValueError):
            raise SwarmError(f"the invite was cut short or mistyped{_ASK}") from None
        body, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
        if not body or checksum != _checksum(body):
            raise SwarmError(f"the invite was cut short or mistyped: its checksum does not fit{_ASK}")
        if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != packed:
            raise SwarmError(f"the invite was mistyped in its last character{_ASK}")
        if body[0] != _VERSION:
            raise SwarmError(
                f"the invite is of version {body[0]} and this program reads version {_VERSION}; "
                "update it, or ask for an older invite"
            )
        return cls._from_body(body[1:])

    @classmethod
    def _from_body(cls, body: bytes) -> "Invite":
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, list) or len(fields) != 4:
            raise SwarmError(f"the invite does not hold the four fields of an invite{_ASK}")
        chain_rpc, chain_id, contract, bootstrap = fields
        if (
            not isinstance(chain_rpc, str)
            or type(chain_id) is not int
            or not isinstance(contract, str)
            or not isinstance(bootstrap, list)
            or not all(isinstance(address, str) for address in bootstrap)
        ):
            raise SwarmError(f"the invite holds a field of the wrong type{_ASK}")
        invite = cls(chain_rpc, chain_id, contract, tuple(bootstrap))
        invite._check()
        return invite

    def _check(self) -> None:
        if self.chain_rpc:
            _check_url(self.chain_rpc)
        if not 0 <= self.chain_id < 2**63:
            raise SwarmError(f"the invite names chain id {self.chain_id}, which no chain has{_ASK}")
        if not _CONTRACT.fullmatch(self.contract) and (self.contract or self.chain_rpc):
            raise SwarmError(
                f"the invite names the contract {self.contract[:60]!r}, which is not an address 0x...{_ASK}"
            )
        if len(self.bootstrap) > MAX_BOOTSTRAP:
            raise SwarmError(f"the invite lists {len(self.bootstrap)} bootstraps, more than {MAX_BOOTSTRAP}{_ASK}")
        for address in self.bootstrap:
            check_address(address, "the invite")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"swarm invite" + body).digest()[:_CHECKSUM_BYTES]


def _check_url(url: str) -> None:
    problem = SwarmError(
        f"the invite names the chain URL {url[:80]!r}, which is not an http, https, ws or wss URL{_ASK}"
    )
    if len(url) > _MAX_URL_CHARS or not re.fullmatch(r"[!-~]+", url):
        raise problem
    try:
        parts = urlsplit(url)
        port = parts.port  # raises ValueError when it is no port number
    except ValueError:
        raise problem from None
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname or port == 0:
        raise problem
