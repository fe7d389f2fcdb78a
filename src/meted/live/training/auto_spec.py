"""What a search for training levers may be asked: its levers by name, its limits checked."""

import difflib
import math

from meted.domain.job import AutoTraining, Method, RateFinder, TrainingSpec

AUTO_LEVERS = ("optimizer", "rate", "rank", "targets", "method", "batch")
MOST_TRIALS = 1000


def check_auto(spec: TrainingSpec, auto: AutoTraining) -> None:
    """Raises ValueError with the field, its value and what was expected."""
    if not auto.levers:
        raise ValueError(f"auto.levers is empty, expected some of {', '.join(AUTO_LEVERS)}")
    for lever in auto.levers:
        if lever not in AUTO_LEVERS:
            near = difflib.get_close_matches(lever, AUTO_LEVERS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"auto.levers has {lever!r}, expected some of {', '.join(AUTO_LEVERS)}{hint}"
            )
    only = set(auto.levers)
    if spec.method is Method.FULL and "method" not in only and only <= {"rank", "targets"}:
        raise ValueError(
            f"auto.levers is {', '.join(auto.levers)}, which method full does not have; add "
            "optimizer or rate, or take method lora"
        )
    if auto.finder not in tuple(RateFinder):
        raise ValueError(f"auto.finder is {auto.finder!r}, expected {', '.join(RateFinder)}")
    _at_least("auto.price", auto.price, 0)
    _at_least("auto.budget", auto.budget, 1)
    _at_least("auto.trials", auto.trials, 1, most=MOST_TRIALS)
    _above_zero("auto.deadline_s", auto.deadline_s)
    _above_zero("auto.target_loss", auto.target_loss)


def _at_least(field: str, value: int | None, least: int, most: int = 2**62) -> None:
    if value is not None and (isinstance(value, bool) or not least <= value <= most):
        raise ValueError(f"{field} is {value!r}, expected {least} to {most}")


def _above_zero(field: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ValueError(f"{field} is {value!r}, expected a number above 0")
