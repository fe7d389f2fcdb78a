"""A budget: how much a tenant, a project or a key may be charged in a day, a month or in all."""

from dataclasses import dataclass
from enum import StrEnum

from meted.domain.arms import public_name
from meted.domain.tenancy import Payer
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    KeyId,
    Micros,
    NanoUSD,
    ProjectName,
    TenantName,
)


class Period(StrEnum):
    """How often a budget begins anew; days and months are those of UTC."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on what payers are charged. A part of the scope that is None covers all of them.

    hard: no charge may go over it; a soft one only alerts. alerts: per cent of the limit at which
    an alert goes out, once in each window.
    """

    name: BudgetName
    tenant: TenantName
    project: ProjectName | None = None
    key: KeyId | None = None
    deployment: DeploymentName | None = None
    period: Period
    limit: NanoUSD
    hard: bool = True
    alerts: tuple[int, ...] = (50, 80, 100)

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError(
                f"budget {self.name!r} has a limit of {self.limit} nano-USD, expected 0 or more"
            )
        if any(not 0 < alert <= 1000 for alert in self.alerts):
            raise ValueError(
                f"budget {self.name!r} has alerts at {list(self.alerts)} per cent, "
                "expected numbers from 1 to 1000"
            )

    def covers(self, payer: Payer, deployment: DeploymentName | None) -> bool:
        """Whether a charge to this payer, for this deployment (None: training), counts."""
        return (
            self.tenant == payer.tenant
            and self.project in (None, payer.project)
            and self.key in (None, payer.key)
            and (self.deployment is None or self.deployment in _names(deployment))
        )


def _names(deployment: DeploymentName | None) -> tuple[DeploymentName, ...]:
    """A version of a deployment is paid for as its clients know it."""
    return () if deployment is None else (deployment, public_name(deployment))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One day, one month or all of a budget's time: charges that begin in [starts, ends) count.

    Moments are wall-clock micros; ends is None for a budget that never begins anew.
    """

    budget: BudgetName
    starts: Micros
    ends: Micros | None
