"""What a found share says about a limit: a share of a few hundred texts is a draw, and its interval says how far off.

Everything here is of exact (Clopper-Pearson) intervals of 95%, which hold for any number of texts.
"""

from __future__ import annotations

from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95
_ALPHA = (1 - CONFIDENCE) / 2  # on either side


def share_bounds(failing: int, lines: int) -> tuple[float, float]:
    """The interval of a share; from 0 to 1 without lines."""
    if not lines:
        return 0.0, 1.0
    low, high = proportion_confint(failing, lines, alpha=2 * _ALPHA, method="beta")
    return float(low), float(high)


def tolerated(limit: float, lines: int) -> int:
    """The most failing lines that are not surely more than ``limit`` allows: their interval still reaches down to it.

    From the next one on, so many would be found in fewer than 2.5% of the sets that are just as good as the limit asks.
    """
    return int(binom.isf(_ALPHA, lines, limit))
