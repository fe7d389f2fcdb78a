"""What a training plan says: devices, layout, hours, money, memory, and what else there was."""

from dataclasses import dataclass

from meted.domain.training_algorithm import TrainingAlgorithm
from meted.domain.units import NanoUSD
from meted.policy.training_wish import TrainingChoice, TrainingWish
from meted.predict.estimate import Estimate
from meted.predict.training.goodput import Goodput
from meted.predict.training.memory import TrainingMemory
from meted.predict.training.step import TrainingStep

__all__ = [
    "TrainingAlternative",
    "TrainingChoice",
    "TrainingMoney",
    "TrainingPlan",
    "TrainingWish",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMoney:
    """Rent of all devices for the hours of the run, in integer nano-USD, with its interval."""

    low: NanoUSD
    expected: NanoUSD
    high: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingAlternative:
    """Another way and why it loses. hours, nano_usd: expected; None without a price."""

    choice: TrainingChoice
    algorithm: TrainingAlgorithm
    hours: float
    nano_usd: NanoUSD | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """The best way found to train.

    hours: of the whole run, failures and checkpoints included. money: None without a price.
    memory: of the fullest device, of which memory_room bytes may be filled. step, step_seconds,
    mfu: of an optimizer step. goodput: checkpoints and failures. model_flops: of the whole run.
    kilowatt_hours: of all devices. binding: what holds time or price up, in a sentence. doubt: a
    sentence where the interval is very wide, else empty. layouts_tried: that were weighed.
    """

    wish: TrainingWish
    choice: TrainingChoice
    algorithm: TrainingAlgorithm
    hours: Estimate
    money: TrainingMoney | None
    memory: TrainingMemory
    memory_room: float
    step: TrainingStep
    step_seconds: Estimate
    mfu: Estimate
    steps: int
    goodput: Goodput
    model_flops: float
    kilowatt_hours: Estimate
    alternatives: tuple[TrainingAlternative, ...]
    binding: str
    doubt: str
    layouts_tried: int

    @property
    def device_hours(self) -> Estimate:
        return self.hours.through(lambda hours: hours * self.choice.devices)

    @property
    def checkpoint_minutes(self) -> float:
        """Minutes of training between two checkpoints."""
        return self.goodput.checkpoint_interval_seconds / 60

    @property
    def expected_failures(self) -> float:
        return self.goodput.expected_failures
