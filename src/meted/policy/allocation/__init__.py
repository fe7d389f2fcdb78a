"""Allocation policies by name. A new one is a file, a line here, and a conformance test."""

import inspect
from collections.abc import Callable

from meted.policy.allocation.demand import DemandPolicy
from meted.policy.allocation.performance import PerformancePolicy
from meted.policy.allocation.static import StaticPolicy
from meted.policy.goodput.policy import GoodputPolicy
from meted.policy.protocol import Policy
from meted.policy.serving.demand_based import DemandScaling
from meted.policy.serving.dynamo import DynamoPlanner
from meted.policy.serving.kubernetes import KubernetesHpa
from meted.policy.serving.performance_based import PerformanceScaling
from meted.policy.serving.spot import SpotScaling
from meted.policy.serving.static_split import StaticSplit
from meted.policy.sharing.loan import Loan
from meted.policy.sharing.paced import BudgetPaced
from meted.policy.tiresias import TiresiasPolicy
from meted.policy.training.cheapest import CheapestPolicy
from meted.policy.training.deadlines import DeadlinesPolicy
from meted.policy.training.fifo import FifoPolicy
from meted.policy.training.finish_time_fairness import FinishTimeFairnessPolicy
from meted.policy.training.las import LasPolicy
from meted.policy.training.makespan import MakespanPolicy
from meted.policy.training.max_min import MaxMinPolicy
from meted.policy.training.priority import PriorityPolicy
from meted.policy.training.sum_throughput import SumThroughputPolicy

POLICIES: dict[str, Callable[..., Policy]] = {
    "static": StaticPolicy,
    "demand": DemandPolicy,
    "performance": PerformancePolicy,
    "cheapest": CheapestPolicy,
    "deadlines": DeadlinesPolicy,
    "fifo": FifoPolicy,
    "finish_time_fairness": FinishTimeFairnessPolicy,
    "las": LasPolicy,
    "makespan": MakespanPolicy,
    "max_min": MaxMinPolicy,
    "priority": PriorityPolicy,
    "sum_throughput": SumThroughputPolicy,
    "demand_scaling": DemandScaling,
    "performance_scaling": PerformanceScaling,
    "goodput": GoodputPolicy,
    "tiresias": TiresiasPolicy,
    "spot_scaling": SpotScaling,
    "loan": Loan,
    "budget_paced": BudgetPaced,
    "static_split": StaticSplit,
    "kubernetes_hpa": KubernetesHpa,
    "dynamo_planner": DynamoPlanner,
}


def make_policy(name: str, parameters: dict[str, float] | None = None) -> Policy:
    """The policy of that name. Raises ValueError for an unknown name or parameter."""
    if name not in POLICIES:
        raise ValueError(f"policy.name is {name!r}; expected one of {', '.join(sorted(POLICIES))}")
    known = inspect.signature(POLICIES[name]).parameters
    for parameter in parameters or {}:
        if parameter not in known:
            raise ValueError(
                f"policy {name!r} does not take these parameters: it has no {parameter!r}, only "
                f"{', '.join(known) or 'none'}"
            )
    try:
        return POLICIES[name](**(parameters or {}))
    except TypeError as error:
        raise ValueError(f"policy {name!r} does not take these parameters: {error}") from error
