"""Whether this machine's clock is right, by what others say.

Each source is a bound or a reading of (their clock - this clock) in seconds. A block's timestamp only says that the
true time is not earlier; a peer's and a server's clock say what it is, and their median counts.
"""

import statistics
from collections.abc import Mapping

from swarm.doctor.findings import Finding

MAX_SKEW_S = 3.0
"""hivemind refuses a peer whose clock differs by more."""
WARN_SKEW_S = 1.0
_AHEAD_OF_CHAIN_S = 2.0


def judge(readings: Mapping[str, float], chain_ahead_s: float | None) -> Finding:
    """`readings`: seconds by which each named source is ahead of this machine. `chain_ahead_s`: the newest block's."""
    if chain_ahead_s is not None and chain_ahead_s > MAX_SKEW_S + _AHEAD_OF_CHAIN_S:
        return Finding(
            "clock",
            "problem",
            f"the chain's newest block is {chain_ahead_s:.0f} s in the future of this machine's clock; set it by NTP "
            "(systemd: timedatectl set-ntp true)",
        )
    if not readings:
        return Finding("clock", "skipped", "nobody was there to compare the clock with; peers refuse more than 3 s")
    skew_s = statistics.median(readings.values())
    told = f"{len(readings)} source{'s' if len(readings) > 1 else ''} ({', '.join(sorted(readings)[:4])})"
    if abs(skew_s) <= WARN_SKEW_S:
        return Finding("clock", "ok", f"the clock is within {max(abs(skew_s), 0.1):.1f} s of {told}")
    where = "behind" if skew_s > 0 else "ahead of"
    sentence = (
        f"the clock is {abs(skew_s):.1f} s {where} {told}; peers refuse more than 3 s, set it by NTP "
        "(systemd: timedatectl set-ntp true)"
    )
    return Finding("clock", "problem" if abs(skew_s) > MAX_SKEW_S else "warning", sentence)
