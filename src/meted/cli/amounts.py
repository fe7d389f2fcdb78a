"""Numbers as people give them on the command line, exact: dollars, shares, percent, weights."""

import re
from typing import Any

import click

from meted.domain.units import NanoUSD
from meted.live.dollars import exact_dollars, nano_dollars, shortened

_DECIMAL = re.compile(r"(-?)([0-9]{1,9})(?:\.([0-9]{1,9}))?")


class Dollars(click.ParamType[NanoUSD]):
    """Exact dollars with up to nine decimals, as nano-USD."""

    name = "usd"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> NanoUSD:
        if isinstance(value, int):
            return NanoUSD(value)
        try:
            return nano_dollars(value, "the amount")
        except ValueError as error:
            self.fail(str(error), param, ctx)


class PerMillion(click.ParamType[int]):
    """Dollars per million tokens with up to six decimals, as micro-USD per million."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return exact_dollars(value, "the rate", places=6)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Thousandths(click.ParamType[int]):
    """A decimal number in thousandths: 1.2 is 1200. percent: 10% or 10 is 100."""

    name = "number"

    def __init__(self, *, percent: bool = False) -> None:
        self._percent = percent
        self._places = 1 if percent else 3

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).removesuffix("%") if self._percent else str(value)
        found = _DECIMAL.fullmatch(text)
        digits = (found[3] or "").rstrip("0") if found else ""
        if found is None or len(digits) > self._places:
            example = "10% or 2.5%" if self._percent else "1.2 or 0.625"
            self.fail(
                f"{shortened(value)} is no number with at most {self._places} decimals; "
                f"expected e.g. {example}",
                param,
                ctx,
            )
        thousandths = int(found[2]) * 10**self._places + int(digits.ljust(self._places, "0"))
        return -thousandths if found[1] else thousandths
