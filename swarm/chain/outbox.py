"""What a peer owes the chain, queued in its journal and sent as soon as the chain can be had.

It promises that nobody waits for the chain; that what is queued is tried until it is mined, refused or expired, also
after a restart; and that a process killed between sending and receipt does not send twice: the signed bytes are in the
journal before they are sent, and after a restart the same bytes are sent again.
"""

import threading
import time
from collections.abc import Callable

from eth_hash.auto import keccak

from swarm.chain.client import (
    RECEIPT_TIMEOUT_S,
    Chain,
    ChainUnavailable,
    InsufficientFunds,
    Receipt,
    Reverted,
    Signer,
    Transaction,
)
from swarm.errors import SwarmError
from swarm.events import Emitter
from swarm.journal.journal import Journal, OutboxRow, OutboxState

CONFIRMATION_S = 15.0  # for each further block that is waited for
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOP_TIMEOUT_S = 15.0


class Outbox:
    """The queue of one account and the thread that works it off."""

    def __init__(
        self,
        journal: Journal,
        chain: Chain,
        signer: Signer,
        emit: Emitter,
        *,
        confirmations: int = 1,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._chain = chain
        self._signer = signer
        self._emit = emit
        self._confirmations = confirmations
        self._now = now
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def put(self, key: str, transaction: Transaction, expires: float, not_before: float = 0.0) -> bool:
        """Queue a transaction under a key that says what it does; times in unix seconds.

        False where that waits or is done already; what was refused or has expired may be queued again.
        """
        row = OutboxRow(key, transaction.to, transaction.data, transaction.value, not_before, expires)
        queued = self._journal.put_outbox(row)
        self._wake.set()
        return queued

    def row(self, key: str) -> OutboxRow | None:
        """What became of a transaction so far; None where there was none with this key."""
        return self._journal.outbox_row(key)

    def start(self) -> None:
        """Begin to send, also what an earlier run left."""
        self._thread.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """End within `timeout_s` seconds; False if it did not. What is queued stays for the next run."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._wake.wait(self._work())

    def _work(self) -> float:
        """Try everything that is due once; the seconds until there is something to do again."""
        pause_s = LONGEST_PAUSE_S
        trouble: SwarmError | None = None
        worked = False
        for row in self._journal.outbox(OutboxState.WAITING):
            left_s = row.not_before - self._now()
            if left_s > 0:
                pause_s = min(pause_s, left_s)
                continue
            error = self._settle(row)
            if self._stop.is_set():
                return 0
            if error is None:
                worked = True
                continue
            trouble = error
            self._journal.note_attempt(row.key, OutboxState.WAITING, str(error))
            if isinstance(error, ChainUnavailable | InsufficientFunds):
                break  # the others would fare no better
        if trouble is not None:
            if self._failures == 0:
                self._emit("outbox_failing", what=str(trouble), waiting=self._waiting())
            pause_s = min(pause_s, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
            self._failures += 1
        elif worked and self._failures:
            self._failures = 0
            self._emit("outbox_working", waiting=self._waiting())
        return pause_s

    def _settle(self, row: OutboxRow) -> SwarmError | None:
        """Send it, or give it up; the error if it has to be tried again."""
        try:
            receipt = self._send(row) if row.expires > self._now() else self._mined_meanwhile(row)
        except Reverted as error:
            self._give_up(row, OutboxState.REFUSED, str(error))
        except SwarmError as error:
            return error
        else:
            if receipt is None:
                self._give_up(
                    row, OutboxState.EXPIRED, f"not sent before it expired: {row.last_error or 'it was late'}"
                )
            else:
                self._journal.note_attempt(row.key, OutboxState.MINED, "", receipt.transaction_hash)
        return None

    def _send(self, row: OutboxRow) -> Receipt:
        try:
            return self._send_once(row)
        except InsufficientFunds:
            if not self._chain.faucet(self._signer.address):
                raise
            return self._send_once(self._journal.outbox_row(row.key) or row)  # it may be signed by now

    def _send_once(self, row: OutboxRow) -> Receipt:
        longest_s = RECEIPT_TIMEOUT_S + CONFIRMATION_S * (self._confirmations - 1)
        return self._chain.send(
            self._signer,
            Transaction(row.recipient, row.data, row.value),
            min(longest_s, row.expires - self._now()),
            confirmations=self._confirmations,
            earlier=row.signed,
            keep=lambda versions: self._journal.note_signed(row.key, versions),
            stop=self._stop,
        )

    def _mined_meanwhile(self, row: OutboxRow) -> Receipt | None:
        receipts = (self._chain.receipt(keccak(version)) for version in row.signed)
        return next((receipt for receipt in receipts if receipt is not None), None)

    def _give_up(self, row: OutboxRow, state: OutboxState, why: str) -> None:
        self._journal.note_attempt(row.key, state, why)
        self._emit("outbox_gave_up", key=row.key, what=why)

    def _waiting(self) -> int:
        return len(self._journal.outbox(OutboxState.WAITING))
