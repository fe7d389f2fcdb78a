"""A receipt: what a lever was said to save, what it did save, and how its rollout ended."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import NewType

from meted.domain.units import DeploymentName, Micros, NanoUSD, Tokens
from meted.predict.estimate import Estimate

ReceiptId = NewType("ReceiptId", str)


class ReceiptError(ValueError):
    """A receipt was asked to become what it cannot."""


class Lever(StrEnum):
    """What was changed."""

    ENGINE = "engine"
    VARIANT = "variant"
    BATCH = "batch"
    REPLICAS = "replicas"
    TRAINING = "training"


class Status(StrEnum):
    """Where a receipt stands. not_there: no saving that the interval sets above zero."""

    PREDICTED = "predicted"
    MEASURING = "measuring"
    VERIFIED = "verified"
    NOT_THERE = "not_there"
    SLIPPED_SLO = "slipped_slo"
    SLIPPED_QUALITY = "slipped_quality"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


_AFTER_MEASURING = frozenset(
    {
        Status.VERIFIED,
        Status.NOT_THERE,
        Status.SLIPPED_SLO,
        Status.SLIPPED_QUALITY,
        Status.FAILED,
        Status.ROLLED_BACK,
    }
)
NEXT: dict[Status, frozenset[Status]] = {
    Status.PREDICTED: frozenset({Status.MEASURING, Status.ROLLED_BACK, Status.FAILED}),
    Status.MEASURING: _AFTER_MEASURING,
    Status.VERIFIED: frozenset({Status.SLIPPED_SLO, Status.SLIPPED_QUALITY, Status.ROLLED_BACK}),
}
"""What a status may turn into; one that is not here is final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTotals:
    """What one arm served, and what that cost, exactly as in the books."""

    tokens: Tokens = Tokens(0)
    cost: NanoUSD = NanoUSD(0)

    def __post_init__(self) -> None:
        if self.tokens < 0 or self.cost < 0:
            raise ReceiptError(
                f"an arm has {self.tokens} tokens for {self.cost} nano-USD, expected 0 or more"
            )

    def plus(self, tokens: int, cost: int) -> "ArmTotals":
        return ArmTotals(tokens=Tokens(self.tokens + tokens), cost=NanoUSD(self.cost + cost))


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One lever of one deployment. before, after: the two configurations in words.

    predicted, measured: the share of cost that is saved, 0.1 is a tenth, negative is dearer.
    ended: when the rollout was decided; None until then.
    first, second: what was served and paid in the arms while they were compared.
    """

    id: ReceiptId
    lever: Lever
    deployment: DeploymentName
    before: str
    after: str
    predicted: Estimate
    began: Micros
    measured: Estimate | None = None
    status: Status = Status.PREDICTED
    ended: Micros | None = None
    first: ArmTotals = ArmTotals()
    second: ArmTotals = ArmTotals()
    reason: str = ""

    def __post_init__(self) -> None:
        if self.ended is not None and self.ended < self.began:
            raise ReceiptError(
                f"receipt {self.id} ended at {self.ended} us and began at {self.began} us, "
                "expected an end after the beginning"
            )
        if self.status is Status.VERIFIED and (self.measured is None or self.measured.low <= 0):
            raise ReceiptError(
                f"receipt {self.id} is verified with a measured saving of {self.measured}, "
                "expected an interval above zero"
            )

    @property
    def final(self) -> bool:
        return self.status not in NEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Money that was not spent: low <= expected <= high, whole nano-USD."""

    low: NanoUSD
    expected: NanoUSD
    high: NanoUSD


def moved(
    receipt: Receipt,
    status: Status,
    *,
    at: Micros,
    reason: str,
    measured: Estimate | None = None,
) -> Receipt:
    """The receipt in its next status. at: moment of the move, which ends it when a rollout is
    decided. measured: kept as it was when None.

    Raises ReceiptError for a move that is not in `NEXT`.
    """
    allowed = NEXT.get(receipt.status, frozenset[Status]())
    if status not in allowed:
        raise ReceiptError(
            f"receipt {receipt.id} is {receipt.status} and cannot become {status}; "
            f"expected {', '.join(sorted(allowed)) or 'no further move'}"
        )
    return replace(
        receipt,
        status=status,
        reason=reason,
        measured=receipt.measured if measured is None else measured,
        ended=at if status in _AFTER_MEASURING else None,
    )


def saved(receipt: Receipt, tokens: Tokens) -> Saved:
    """What a verified receipt has saved over the tokens served since its promotion.

    tokens x the first arm's cost per token x the measured saving; low is rounded down and high up,
    so that the interval stays one. Nothing for a receipt that is not verified, or without tokens in
    its first arm.
    """
    if tokens < 0:
        raise ReceiptError(f"{tokens} tokens were served since promotion, expected 0 or more")
    saving = receipt.measured
    if receipt.status is not Status.VERIFIED or saving is None or not receipt.first.tokens:
        return Saved(low=NanoUSD(0), expected=NanoUSD(0), high=NanoUSD(0))
    before = Fraction(receipt.first.cost * tokens, receipt.first.tokens)
    return Saved(
        low=NanoUSD(math.floor(before * Fraction(saving.low))),
        expected=NanoUSD(round(before * Fraction(saving.expected))),
        high=NanoUSD(math.ceil(before * Fraction(saving.high))),
    )


def total(parts: Iterable[Saved]) -> Saved:
    """Sum of savings, end by end: wider than the truth, as the receipts may err together."""
    each = tuple(parts)
    return Saved(
        low=NanoUSD(sum(one.low for one in each)),
        expected=NanoUSD(sum(one.expected for one in each)),
        high=NanoUSD(sum(one.high for one in each)),
    )
