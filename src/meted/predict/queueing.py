"""Queues that have closed forms, and the traffic that comes to them."""

import math
from dataclasses import dataclass


class UnstableError(ValueError):
    """More work comes than the servers can do: no queue has a steady state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Time in a queue: with probability `waits` there is any, and then it is exponential with mean
    `given`, in the unit of the service time."""

    waits: float
    given: float

    @property
    def mean(self) -> float:
        return self.waits * self.given

    def quantile(self, share: float) -> float:
        """The wait that `share` of the arrivals do not exceed; 0 <= share < 1."""
        if share <= 1.0 - self.waits:
            return 0.0
        return self.given * math.log(self.waits / (1.0 - share))

    def beyond(self, wait: float) -> float:
        """Share of the arrivals that wait longer."""
        if self.waits == 0.0:
            return 0.0
        return 1.0 if wait < 0 else self.waits * math.exp(-wait / self.given)


def erlang_c(servers: int, offered: float) -> float:
    """Share of arrivals that wait in M/M/c (Erlang 1917), from Erlang B by its recursion.

    offered: arrival rate times service time, in servers.
    Raises UnstableError if it is not less than `servers`.
    """
    if servers < 1:
        raise ValueError(f"there are {servers} servers, expected 1 or more")
    _stable(offered, servers)
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1.0 - offered / servers * (1.0 - blocked))


def mmc_wait(rate: float, service: float, servers: int = 1) -> Wait:
    """Wait of M/M/c, exact: Poisson arrivals, exponential service, first come first served."""
    offered = rate * service
    return Wait(waits=erlang_c(servers, offered), given=service / (servers - offered))


def mg1_wait(rate: float, service: float, service_cv: float) -> Wait:
    """Wait of M/G/1: the mean exact (Pollaczek 1930, Khinchine 1932), and its exponential tail an
    approximation that is exact for exponential service.

    service_cv: deviation of the service time over its mean.
    """
    load = rate * service
    _stable(load, 1)
    return Wait(waits=load, given=service * (1.0 + service_cv**2) / (2.0 * (1.0 - load)))


def kingman_wait(rate: float, service: float, *, arrival_cv: float, service_cv: float) -> float:
    """Mean wait of G/G/1, nearly (Kingman 1961); exact for M/G/1. arrival_cv, service_cv:
    deviation over mean of the gaps between arrivals and of the service time."""
    load = rate * service
    _stable(load, 1)
    return load / (1.0 - load) * (arrival_cv**2 + service_cv**2) / 2.0 * service


def _stable(offered: float, servers: int) -> None:
    if not 0.0 <= offered < servers:
        raise UnstableError(
            f"work comes for {offered:.3g} servers, but there are {servers}; "
            "send less or add servers"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests that come at random. prompt_tokens, output_tokens: means. length_cv: deviation of
    either over its mean, log-normal. arrival_cv: of the gaps between arrivals, gamma; 1 is Poisson,
    more is bursty."""

    arrivals_per_second: float
    prompt_tokens: float
    output_tokens: float
    length_cv: float = 0.0
    arrival_cv: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("prompt_tokens", 1.0), ("output_tokens", 1.0), ("length_cv", 0.0)):
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} of traffic is {getattr(self, name):g}, expected {least:g} or more"
                )
        for name in ("arrivals_per_second", "arrival_cv"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} of traffic is {getattr(self, name):g}, expected more than 0"
                )
