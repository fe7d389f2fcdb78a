"""One job of a trace: when it came, how much work it had, and how fast that goes."""

from dataclasses import dataclass

from meted.domain.allocation import JobOption
from meted.domain.units import Micros, TenantName


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedJob:
    """arrived: since the trace began. options: its pace by kind and number of devices; kind ""
    stands for every kind. title: what it trains. deadline: a moment, None for none.
    """

    name: str
    arrived: Micros
    steps: float
    options: tuple[JobOption, ...]
    title: str = ""
    tenant: TenantName = TenantName("")
    weight: float = 1.0
    deadline: Micros | None = None
