"""Allocation policies by name. A new one is a file, a line here, and a conformance test."""

from collections.abc import Callable

from meted.policy.allocation.demand import DemandPolicy
from meted.policy.allocation.performance import PerformancePolicy
from meted.policy.allocation.static import StaticPolicy
from meted.policy.protocol import Policy

POLICIES: dict[str, Callable[..., Policy]] = {
    "static": StaticPolicy,
    "demand": DemandPolicy,
    "performance": PerformancePolicy,
}


def make_policy(name: str, parameters: dict[str, float] | None = None) -> Policy:
    """The policy of that name. Raises ValueError for an unknown name or parameter."""
    if name not in POLICIES:
        raise ValueError(f"policy.name is {name!r}; expected one of {', '.join(sorted(POLICIES))}")
    try:
        return POLICIES[name](**(parameters or {}))
    except TypeError as error:
        raise ValueError(f"policy {name!r} does not take these parameters: {error}") from error
