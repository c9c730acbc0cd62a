"""What a judge's raw scores mean, learned from audits: judged answers whose truth becomes known after the verdict.

Everybody fits the same curve to the same records, so a judge's own idea of its scale does not matter: one whose score
says nothing gets slope zero, whatever it writes. Old audits fade, so that an honest past does not pay for long.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

MAX_RAW = 20.0
"""Raw scores are log-odds and clipped here."""
WINDOW = 400
"""Newest audits that count."""
HALF_LIFE = 80
"""An audit counts half as much as one that is so many audits younger."""
RECENT_HALF_LIFE = 15
"""The same where the newest audits are looked at alone, to notice early that a judge has changed."""
MIN_AUDITS = 12
"""Below this a judge weighs nothing."""
MIN_INFORMEDNESS = 0.1
"""Where the lower bound is not above this a judge weighs nothing: luck alone rarely gets there."""
_RIDGE = 1.0
_STEPS = 50
_Z = 1.2816  # one-sided 90%


@dataclass(frozen=True)
class Tally:
    """Audits with the same truth, faded by age: their sum of weights, that of the ones judged rightly, and that of the
    squared weights."""

    total: float = 0.0
    hits: float = 0.0
    squares: float = 0.0

    @property
    def effective(self) -> float:
        """How many audits of weight 1 would say as much (Kish 1965)."""
        return self.total**2 / self.squares if self.squares else 0.0


@dataclass(frozen=True)
class Calibration:
    """Raw score x to the probability 1 / (1 + exp(-(slope * x + intercept))) that the judged answer is right."""

    slope: float
    intercept: float
    prior: float
    """Log-odds that an audited answer is right, before anybody judges it."""
    audits: int
    right: Tally
    """Of audits whose answer was right."""
    wrong: Tally
    informedness: float
    """J = TPR + TNR - 1 on the audits (Youden 1950); 0 for any report that ignores the answer."""
    lower: float
    """Lower 90% confidence bound of the informedness."""
    recently: tuple[Tally, Tally] = (Tally(), Tally())
    """As `right` and `wrong`, faded faster."""
    recent_upper: float = 1.0
    """Upper 90% confidence bound of the informedness on the newest audits."""

    def probability(self, raw: float) -> float:
        return _sigmoid(self.log_odds(raw))

    def log_odds(self, raw: float) -> float:
        """Of the same. Nobody is surer than its audits can show: n of them move the odds by a factor of n + 1."""
        most = math.log1p(self.right.effective + self.wrong.effective)
        return self.prior + min(max(self.slope * _clip(raw) + self.intercept - self.prior, -most), most)

    @property
    def weight(self) -> float:
        """What this judge has surely proved to know and still seems to, in [0, 1]; 0 until it is proven."""
        sure = min(self.lower, self.recent_upper, 1.0)
        return sure if self.audits >= MIN_AUDITS and sure > MIN_INFORMEDNESS else 0.0

    @property
    def worth(self) -> float:
        """What this judge's verdicts are worth, in [0, 1]; 0 until that is proven. Points are paid by it."""
        return min(self.informedness, self.recent_upper) if self.weight else 0.0

    @property
    def trust(self) -> float:
        """The sure share of what it seems to know, in [0, 1]. The log-odds of a weak judge are small by themselves, so
        its votes shrink by the doubt about it and not by its weakness again."""
        return min(1.0, self.weight / self.informedness) if self.weight else 0.0


UNPROVEN = Calibration(0.0, 0.0, 0.0, 0, Tally(), Tally(), informedness=0.0, lower=0.0)


def calibrate(audits: Sequence[tuple[float, bool]], *, half_life: float = HALF_LIFE) -> Calibration:
    """Fit a judge's audits, each (raw score, whether the answer was right), oldest first.

    Logistic regression of the truth on the standardised score, with a ridge on the slope, which is not allowed below
    zero (Platt 1999). The judge says "right" where it finds an answer likelier than it was before.
    """
    return _calibrate(tuple(map(tuple, audits[-WINDOW:])), half_life)


@lru_cache(maxsize=256)  # rounds without an audit leave a judge as it was, and a settlement goes through them all again
def _calibrate(audits: tuple[tuple[float, bool], ...], half_life: float) -> Calibration:
    recent = [(_clip(raw), truth) for raw, truth in audits if math.isfinite(raw)]
    if not recent:
        return UNPROVEN
    fade = 0.5 ** (1 / half_life)
    weights = [fade**age for age in range(len(recent) - 1, -1, -1)]
    prior = _prior(recent, weights)
    slope, intercept = _fit(recent, weights) or (0.0, prior)
    hits = [(truth, (slope * raw + intercept > prior) == truth) for raw, truth in recent]
    right, wrong = _tallies(hits, weights)
    faster = [0.5 ** (age / RECENT_HALF_LIFE) for age in range(len(recent) - 1, -1, -1)]
    found = Calibration(slope, intercept, prior, len(recent), right, wrong, 0.0, 0.0, _tallies(hits, faster))
    return _rated(found, [found])


def pooled(own: Calibration, siblings: Sequence[Calibration]) -> Calibration:
    """A judge's own curve, with the informedness that all judges of its owner have shown together.

    Args:
        siblings: the owner's other judges.
    """
    if not siblings:
        return own
    return _rated(own, [own, *siblings])


def _tallies(hits: Sequence[tuple[bool, bool]], weights: Sequence[float]) -> tuple[Tally, Tally]:
    """Of audits, each (whether the answer was right, whether the judge was): those of right and of wrong answers."""
    return _tally(hits, weights, True), _tally(hits, weights, False)


def _tally(hits: Sequence[tuple[bool, bool]], weights: Sequence[float], truth: bool) -> Tally:
    total, right, squares = 0.0, 0.0, 0.0
    for (one, hit), weight in zip(hits, weights, strict=True):
        if one == truth:
            total += weight
            right += weight * hit
            squares += weight * weight
    return Tally(total, right, squares)


def _sum(tallies: Sequence[Tally]) -> Tally:
    return Tally(
        math.fsum(one.total for one in tallies),
        math.fsum(one.hits for one in tallies),
        math.fsum(one.squares for one in tallies),
    )


def _rated(calibration: Calibration, together: Sequence[Calibration]) -> Calibration:
    """The calibration with the informedness that some judges' tallies show together."""
    audits = sum(one.audits for one in together)
    right, wrong = _sum([one.right for one in together]), _sum([one.wrong for one in together])
    if not right.total or not wrong.total:
        return replace(calibration, informedness=0.0, lower=-1.0, audits=audits)
    informedness = right.hits / right.total + wrong.hits / wrong.total - 1
    lower, _ = _bounds(right, wrong)
    _, upper = _bounds(*(_sum([one.recently[truth] for one in together]) for truth in (0, 1)))
    return replace(calibration, informedness=informedness, lower=lower, recent_upper=upper, audits=audits)


def _bounds(right: Tally, wrong: Tally) -> tuple[float, float]:
    """Confidence interval of the informedness, each side with 90%."""
    careful, variance = -1.0, 0.0
    for tally in (right, wrong):
        rate, count = tally.hits / tally.total, tally.effective
        # two audits more, one of them missed, keep a perfect record on few from looking certain
        rate = (rate * count + 1) / (count + 2)
        careful += rate
        variance += rate * (1 - rate) / count
    margin = _Z * math.sqrt(variance)
    return careful - margin, careful + margin


def _prior(audits: Sequence[tuple[float, bool]], weights: Sequence[float]) -> float:
    right = math.fsum(weight for (_, truth), weight in zip(audits, weights, strict=True) if truth)
    return math.log((right + 0.5) / (math.fsum(weights) - right + 0.5))


def _fit(audits: Sequence[tuple[float, bool]], weights: Sequence[float]) -> tuple[float, float] | None:
    """Slope and intercept; None where the score does not rise with the truth.

    Damped Newton on the penalised log-likelihood, in the two parameters.
    """
    total = math.fsum(weights)
    mean = math.fsum(weight * raw for (raw, _), weight in zip(audits, weights, strict=True)) / total
    spread = math.sqrt(
        math.fsum(weight * (raw - mean) ** 2 for (raw, _), weight in zip(audits, weights, strict=True)) / total
    )
    if spread < 1e-6:
        return None
    rows = [((raw - mean) / spread, truth, weight) for (raw, truth), weight in zip(audits, weights, strict=True)]
    slope, intercept, exp = 0.0, 0.0, math.exp
    for _ in range(_STEPS):
        g_slope, g_intercept = -_RIDGE * slope, -0.1 * intercept
        h_ss, h_si, h_ii = _RIDGE, 0.0, 0.1
        for score, truth, weight in rows:
            x = slope * score + intercept
            # the logistic function, written out: settlements go through millions of rows
            p = 1.0 / (1.0 + exp(-x)) if x >= 0 else (grown := exp(x)) / (1.0 + grown)
            missed = weight * (truth - p)
            g_slope += missed * score
            g_intercept += missed
            curvature = weight * p * (1 - p)
            h_ss += curvature * score * score
            h_si += curvature * score
            h_ii += curvature
        determinant = h_ss * h_ii - h_si * h_si
        step_slope = (h_ii * g_slope - h_si * g_intercept) / determinant
        step_intercept = (h_ss * g_intercept - h_si * g_slope) / determinant
        damping = min(1.0, 2.0 / (abs(step_slope) + abs(step_intercept) + 1e-9))
        slope += damping * step_slope
        intercept += damping * step_intercept
        if abs(step_slope) + abs(step_intercept) < 1e-7:
            break
    if slope <= 0:  # a judge that is right when it says wrong is not believed the other way round
        return None
    return slope / spread, intercept - slope * mean / spread


def _clip(raw: float) -> float:
    return min(max(raw, -MAX_RAW), MAX_RAW)


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))
