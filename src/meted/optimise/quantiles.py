"""Quantiles of the normal and of Student's distribution, as plain numbers."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit


def normal_quantile(probability: float) -> float:
    """z with P(Z <= z) = probability, for a standard normal Z."""
    return float(ndtri(probability))


def normal_below(z: float) -> float:
    """P(Z <= z) for a standard normal Z."""
    return float(ndtr(z))


def student_quantile(probability: float, freedom: float) -> float:
    """t with P(T <= t) = probability, for Student's T with so many degrees of freedom."""
    return float(stdtrit(freedom, probability))


def two_sided(level: float) -> float:
    """The probability below the upper end of a symmetric interval of this level."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected between 0 and 1")
    return 0.5 + level / 2


def wilson(right: float, asked: float, z: float) -> tuple[float, float]:
    """Where a share lies when `right` of `asked` came true (Wilson 1927); z: normal quantile."""
    if not 0 <= right <= asked or asked <= 0:
        raise ValueError(f"{right} of {asked} is no share, expected 0 <= right <= asked, asked > 0")
    share = right / asked
    scale = 1 + z * z / asked
    middle = (share + z * z / (2 * asked)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / asked + (z / (2 * asked)) ** 2)
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def jackknife_deviation(without: NDArray[np.float64]) -> float:
    """Standard error of a statistic from its values with each of n clusters left out (Tukey)."""
    n = len(without)
    return math.sqrt((n - 1) / n * float(np.sum((without - without.mean()) ** 2)))
