"""Sharing what nobody ordered: idle and other shared cost, over tenants, by a stated method."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from meted.domain.units import NanoUSD, TenantName
from meted.ledger.split import largest_remainder


class Method(StrEnum):
    """How shared cost is laid on tenants.

    NONE: it stays unallocated. EVEN: equally on all with direct cost. PROPORTIONAL: as their direct
    cost. BY_RESERVATION: as what was kept ready for each, used or not.
    """

    NONE = "none"
    EVEN = "even"
    PROPORTIONAL = "proportional"
    BY_RESERVATION = "by_reservation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What each tenant bears of a shared cost, and what nobody does; together all of it."""

    parts: dict[TenantName, NanoUSD]
    unallocated: NanoUSD


def share(
    *,
    shared: NanoUSD,
    direct: Mapping[TenantName, NanoUSD],
    method: Method,
    reservations: Mapping[TenantName, int] | None = None,
) -> Shares:
    """Split a shared cost by largest remainder; the parts and the unallocated sum to it exactly.

    A negative shared cost, a correction, is split like its opposite. Tenants whose direct cost is
    not positive bear nothing by `even` and `proportional`; those without a reservation bear nothing
    by reservation. If nobody is left to bear it, all is unallocated. Equal arguments give equal
    parts whatever their order; ties go to the first name.
    Raises ValueError for a negative reservation.
    """
    weights = _weights(direct, method, reservations or {})
    if not weights:
        return Shares(parts={}, unallocated=shared)
    sign = -1 if shared < 0 else 1
    amounts = largest_remainder(abs(shared), list(weights.values()))
    parts = {tenant: NanoUSD(sign * part) for tenant, part in zip(weights, amounts, strict=True)}
    return Shares(parts=parts, unallocated=NanoUSD(0))


def _weights(
    direct: Mapping[TenantName, NanoUSD], method: Method, reservations: Mapping[TenantName, int]
) -> dict[TenantName, int]:
    """Positive weights of those who bear a part, by name."""
    match method:
        case Method.NONE:
            return {}
        case Method.EVEN:
            return {tenant: 1 for tenant in sorted(direct) if direct[tenant] > 0}
        case Method.PROPORTIONAL:
            return {tenant: direct[tenant] for tenant in sorted(direct) if direct[tenant] > 0}
        case Method.BY_RESERVATION:
            for tenant, reserved in reservations.items():
                if reserved < 0:
                    raise ValueError(
                        f"tenant {tenant!r} has a reservation of {reserved}, expected 0 or more; "
                        "correct it"
                    )
            return {
                tenant: reservations[tenant]
                for tenant in sorted(reservations)
                if reservations[tenant] > 0
            }
        case _:
            assert_never(method)
