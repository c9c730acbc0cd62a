"""Which round comes next for this peer, and whom it waits for; the rules themselves are in clock.py and patience.py."""

import threading
import time
from collections.abc import Callable, Mapping, Set

from swarm.events import Emitter
from swarm.round.clock import Clock, larger_crowd, next_round
from swarm.round.exchange import POLL_S, Exchange
from swarm.round.patience import Patience
from swarm.round.presence import Presence
from swarm.round.records import LiveNote

GATHER_S = 180.0
GOODBYE_S = 10.0


class Stopped(Exception):
    """Somebody asked the peer to stop."""


class Schedule:
    """The clock as one peer sees it, with who is here and who keeps others waiting. Every wait has a deadline."""

    def __init__(
        self, me: str, clock: Clock, exchange: Exchange, presence: Presence, emit: Emitter, stop: threading.Event
    ) -> None:
        self.clock = clock
        self._me = me
        self._exchange = exchange
        self._presence = presence
        self._emit = emit
        self._stop = stop
        self._patience = Patience()
        self._trust = Patience()
        self._finishing = Patience()
        self._partners: set[str] = set()
        self._before = -1
        self._number = -1
        self._ordinal = 0

    def gather(self, count: int) -> None:
        """Wait until `count` peers are here, this one included, but not for ever."""
        deadline = time.monotonic() + GATHER_S
        while (here := 1 + len(self._presence.refresh())) < count and time.monotonic() < deadline:
            self._emit("gathering", here=here, of=count)
            self._pause(POLL_S)
        if count > 1:
            self._partners = set(self._presence.live())

    def first(self, last: int) -> int:
        """The round to begin with, after `last`: the one that the others are in if answers can still be in time."""
        live = self._presence.refresh()
        now = time.time()
        playing = sorted(
            note.round for note in live.values() if note.round > last and self.clock.plausible(note.round, now)
        )
        if not playing:
            return max(last + 1, self.clock.first_after(now))
        return self._enter(playing[(len(playing) - 1) // 2], live)

    def begin(self, number: int, ordinal: int, tokens_per_s: float) -> None:
        """Say that this peer plays a round."""
        self._before, self._number, self._ordinal = self._number, number, ordinal
        self._presence.say(round=number, tokens_per_s=round(tokens_per_s, 1))

    def expected(self) -> set[str]:
        """The peers to wait for: those who play this round, and those of the last one who are still here.

        Raises:
            Stopped: asked to stop, while waiting for them.
        """
        self.check_stop()
        live = self._presence.fresh()
        playing = {peer for peer, note in live.items() if note.round == self._number}
        # A partner that has begun another round does not come to this one.
        coming = {peer for peer in self._partners & set(live) if live[peer].round <= self._before}
        here = playing | coming
        return {self._me} | self._patience.worth_it(here, self._ordinal) & self.worth_fetching(here)

    def worth_fetching(self, peers: Set[str]) -> set[str]:
        """Those of `peers` that have not lately announced what they did not deliver."""
        return self._trust.worth_it(peers, self._ordinal)

    def ended(self, published: set[str], missing: set[str], undelivered: set[str]) -> None:
        """Learn from a round: whose answers came, who was waited for in vain, and who did not deliver."""
        self._partners = published - {self._me}
        self._patience.note(self._ordinal, good=published, bad=missing)
        self._trust.note(self._ordinal, good=published, bad=undelivered)

    def following(self, number: int, meanwhile: Callable[[], bool] = lambda: False) -> int:
        """Say that this peer has finished a round, and wait for the start of the next; `meanwhile` as in
        `Exchange.wait`."""
        finished_at = time.time()
        self._exchange.say_done(number, finished_at)
        return self._next(number, finished_at, meanwhile)

    def leave(self, number: int) -> None:
        """Say that the last round is finished, and stay until the others have what they need from here."""
        self._exchange.say_done(number, time.time())
        deadline = time.monotonic() + GOODBYE_S
        while time.monotonic() < deadline and not self._stop.is_set():
            if self._partners & set(self._presence.refresh()) <= set(self._exchange.done(number)):
                return
            self._stop.wait(POLL_S)

    def check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _enter(self, number: int, live: Mapping[str, LiveNote]) -> int:
        """The round to play with those who are in `number`: this one if answers can still be in time, else the next."""
        if time.time() < (self.clock.start(number) + self.clock.due(number, "answer")) / 2:
            return self._at_start(number)
        self._number = number
        self._partners = {peer for peer, note in live.items() if note.round == number}
        self._emit("waiting", round=number, stage="next round", until=self.clock.end(number))
        return self._next(number, finished_at=None)

    def _next(self, current: int, finished_at: float | None, meanwhile: Callable[[], bool] = lambda: False) -> int:
        """The next round, at its start; `finished_at` is None for a newcomer that has only watched `current`."""
        while True:
            live = self._presence.fresh()
            playing = {peer: note.round for peer, note in live.items()}
            # Only those whose answers came: who says that it plays and does not must not hold up the others.
            others = self._finishing.worth_it(self._partners & set(live), self._ordinal)
            strangers = self._finishing.worth_it(set(live) - self._partners, self._ordinal)
            crowd = larger_crowd(
                self.clock,
                current,
                others=len(others),
                strangers=[playing[peer] for peer in strangers],
                now=time.time(),
            )
            if crowd is not None:
                return self._enter(crowd, live)
            expected = set(others)
            finished = self._exchange.done(current)
            if finished_at is not None or not expected:
                expected.add(self._me)
                finished[self._me] = finished_at or time.time()
            number = next_round(
                self.clock,
                current,
                me=self._me,
                expected=expected,
                finished=finished,
                playing=playing,
                now=time.time(),
            )
            if number is not None:
                overdue = others - set(finished) if time.time() >= self.clock.end(current) else set()
                self._finishing.note(self._ordinal, good=set(finished), bad=overdue)
                return self._at_start(number)
            self.check_stop()
            if not meanwhile():
                self._pause(POLL_S)

    def _at_start(self, number: int) -> int:
        while (left := self.clock.start(number) - time.time()) > 0:
            self._pause(min(left, 0.5))
        return number

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self.check_stop()
