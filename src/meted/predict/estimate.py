"""A predicted number with its interval: no prediction of Meted comes without one."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number and the interval in which it lies with probability `level`."""

    low: float
    expected: float
    high: float
    level: float = 0.9

    def __post_init__(self) -> None:
        if not self.low <= self.expected <= self.high:
            raise ValueError(
                f"estimate is {self.expected} in [{self.low}, {self.high}], expected it inside"
            )

    @property
    def spread(self) -> float:
        """High over low; 1 is certain, 10 is a guess at the order of magnitude."""
        return self.high / self.low if self.low > 0 else math.inf

    def through(self, rising: Callable[[float], float]) -> "Estimate":
        """The estimate of a function that rises with this number."""
        return Estimate(
            low=rising(self.low),
            expected=rising(self.expected),
            high=rising(self.high),
            level=self.level,
        )


def exactly(value: float) -> Estimate:
    """A number without doubt."""
    return Estimate(low=value, expected=value, high=value)
