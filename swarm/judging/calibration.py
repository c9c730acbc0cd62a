"""What a judge's raw scores mean, learned from audits: judged items whose truth the verifier knows.

Everybody fits the same curve to the same records, so a judge's own idea of its scale does not matter: one whose score
says nothing gets slope zero, whatever it writes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_RAW = 20.0
"""Raw scores are log-odds and clipped here."""
WINDOW = 400
"""Newest audits that count."""
MIN_AUDITS = 12
"""Below this a judge weighs nothing."""
_RIDGE = 1.0
_STEPS = 50
_Z = 1.2816  # one-sided 90%


@dataclass(frozen=True)
class Calibration:
    """Raw score x to the probability 1 / (1 + exp(-(slope * x + intercept))) that the judged answer is right."""

    slope: float
    intercept: float
    audits: int
    informedness: float
    """J = TPR + TNR - 1 on the audits; 0 for any report that ignores the answer."""
    lower: float
    """Lower 90% confidence bound of the informedness."""

    def probability(self, raw: float) -> float:
        return _sigmoid(self.slope * _clip(raw) + self.intercept)

    @property
    def weight(self) -> float:
        """Weight of this judge in a jury, in [0, 1]; 0 until it is proven."""
        return min(max(self.lower, 0.0), 1.0) if self.audits >= MIN_AUDITS else 0.0


UNPROVEN = Calibration(slope=0.0, intercept=0.0, audits=0, informedness=0.0, lower=0.0)


def calibrate(audits: Sequence[tuple[float, bool]]) -> Calibration:
    """Fit a judge's audits, each (raw score, whether the answer was right), oldest first.

    Logistic regression with a ridge on the slope, which is not allowed below zero (Platt 1999).
    """
    recent = [(_clip(raw), truth) for raw, truth in audits[-WINDOW:] if math.isfinite(raw)]
    if not recent:
        return UNPROVEN
    slope, intercept = _fit(recent)
    right = [slope * raw + intercept > 0 for raw, truth in recent if truth]
    wrong = [slope * raw + intercept <= 0 for raw, truth in recent if not truth]
    informedness, lower = _informedness(right, wrong)
    return Calibration(slope, intercept, len(recent), informedness, lower)


def _informedness(right: Sequence[bool], wrong: Sequence[bool]) -> tuple[float, float]:
    if not right or not wrong:
        return 0.0, -1.0
    rates = [sum(hits) / len(hits) for hits in (right, wrong)]
    # add-one rates keep a perfect record on few items from looking certain
    careful = [(sum(hits) + 1) / (len(hits) + 2) for hits in (right, wrong)]
    variance = sum(rate * (1 - rate) / len(hits) for rate, hits in zip(careful, (right, wrong), strict=True))
    return sum(rates) - 1, sum(careful) - 1 - _Z * math.sqrt(variance)


def _fit(audits: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """Damped Newton on the penalised log-likelihood, in the two parameters."""
    slope, intercept = 0.0, 0.0
    for _ in range(_STEPS):
        g_slope, g_intercept = -_RIDGE * slope, -0.1 * intercept
        h_ss, h_si, h_ii = _RIDGE, 0.0, 0.1
        for raw, truth in audits:
            p = _sigmoid(slope * raw + intercept)
            g_slope += (truth - p) * raw
            g_intercept += truth - p
            curvature = p * (1 - p)
            h_ss += curvature * raw * raw
            h_si += curvature * raw
            h_ii += curvature
        determinant = h_ss * h_ii - h_si * h_si
        step_slope = (h_ii * g_slope - h_si * g_intercept) / determinant
        step_intercept = (h_ss * g_intercept - h_si * g_slope) / determinant
        damping = min(1.0, 2.0 / (abs(step_slope) + abs(step_intercept) + 1e-9))
        slope += damping * step_slope
        intercept += damping * step_intercept
        if abs(step_slope) + abs(step_intercept) < 1e-9:
            break
    if slope < 0:  # a judge that is right when it says wrong is not believed the other way round
        share = sum(truth for _, truth in audits) / len(audits)
        return 0.0, math.log((share + 1e-3) / (1 - share + 1e-3))
    return slope, intercept


def _clip(raw: float) -> float:
    return min(max(raw, -MAX_RAW), MAX_RAW)


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))
