"""How a search for training levers is asked for: the same words in `train` and `optimise`."""

import re
from typing import Any

import click

from meted.cli.client import HouseClient
from meted.domain.job import AutoTraining, RateFinder
from meted.domain.units import NanoUSD
from meted.live.dollars import nano_dollars
from meted.live.training.auto_spec import AUTO_LEVERS

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Lasting(click.ParamType[float]):
    """A length of time: 90s, 30m, 2h, as seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s|m|min|h|d)", str(value).strip())
        if found is None or not float(found[1]):
            self.fail(f"{value!r} is no length of time; expected e.g. 90s, 30m, 2h", param, ctx)
        return float(found[1]) * _SECONDS[found[2][0]]


class Levers(click.ParamType[tuple[str, ...]]):
    """Names of levers, by commas."""

    name = "levers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value  # pyright: ignore[reportUnknownVariableType]
        names = tuple(one.strip() for one in str(value).split(",") if one.strip())
        for name in names:
            if name not in AUTO_LEVERS:
                self.fail(f"{name!r} is no lever; expected some of {', '.join(AUTO_LEVERS)}")
        return tuple(dict.fromkeys(names))


def auto_of(
    client: HouseClient,
    *,
    budget: NanoUSD | None,
    deadline_s: float | None,
    levers: tuple[str, ...] | None = None,
    target_loss: float | None = None,
    trials: int | None = None,
    finder: str | None = None,
    finish: bool = True,
) -> AutoTraining:
    """The search at the price that the house reckons with now."""
    price = client.get("status")["pool"]["price_usd_per_device_hour"]
    usual = AutoTraining()
    return AutoTraining(
        price=nano_dollars(str(price), "the house's price"),
        budget=budget,
        deadline_s=deadline_s,
        levers=levers or usual.levers,
        target_loss=target_loss,
        trials=trials or usual.trials,
        finder=RateFinder(finder or usual.finder),
        finish=finish,
    )
