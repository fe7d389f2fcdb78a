"""Every policy for exclusive pools keeps the protocol."""

import pytest

from meted.policy.protocol import Policy
from meted.policy.training.cheapest import CheapestPolicy
from meted.policy.training.deadlines import DeadlinesPolicy
from meted.policy.training.fifo import FifoPolicy
from meted.policy.training.finish_time_fairness import FinishTimeFairnessPolicy
from meted.policy.training.las import LasPolicy
from meted.policy.training.makespan import MakespanPolicy
from meted.policy.training.max_min import MaxMinPolicy
from meted.policy.training.priority import PriorityPolicy
from meted.policy.training.sum_throughput import SumThroughputPolicy
from meted.testing.check_exclusive import check_exclusive_policy

STEADY = [
    FifoPolicy(),
    FifoPolicy(overtake=1),
    PriorityPolicy(),
    MakespanPolicy(),
    CheapestPolicy(),
    CheapestPolicy(makespan_factor=1.2),
    DeadlinesPolicy(),
]
ROTATING = [
    LasPolicy(),
    LasPolicy(by_price=1),
    MaxMinPolicy(),
    MaxMinPolicy(by_price=1),
    FinishTimeFairnessPolicy(),
    SumThroughputPolicy(),
]


@pytest.mark.parametrize("policy", STEADY, ids=repr)
def test_steady_policy_keeps_the_protocol(policy: Policy) -> None:
    check_exclusive_policy(policy)


@pytest.mark.parametrize("policy", ROTATING, ids=repr)
def test_rotating_policy_keeps_the_protocol(policy: Policy) -> None:
    check_exclusive_policy(policy, rotates=True)
