"""Statistical efficiency: how much a step with a larger batch advances training."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientNoise:
    """Squared norm and variance of a job's gradient, both at its initial batch size."""

    squared: float
    variance: float

    def gain(self, scale: float) -> float:
        """Progress of a step with `scale` times the initial batch, in steps with that batch.

        Between 1 and `scale` for a scale above 1 (Qiao et al., Pollux, OSDI 2021, section 3.1).
        Raises ValueError unless the scale is positive.
        """
        if scale <= 0:
            raise ValueError(
                f"batch scale is {scale}, expected more than 0; divide two batch sizes"
            )
        below = self.variance / scale + self.squared
        return (self.variance + self.squared) / below if below > 0 else 1.0


def goodput(noise: GradientNoise, *, scale: float, step_seconds: float) -> float:
    """Useful steps per second: throughput times efficiency. Raises ValueError like `gain`."""
    if step_seconds <= 0:
        raise ValueError(f"a step takes {step_seconds} s, expected more than 0; measure it again")
    return noise.gain(scale) / step_seconds
