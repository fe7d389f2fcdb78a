"""What all verbs share: their options, their errors and exit codes."""

from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from meted.live.config import ConfigError
from meted.live.home import Home, HomeError, find_home
from meted.live.store import StoreError

FAILED = 1
NO_HOUSE = 3
REFUSED = 4

_HOME = "meted.home"
_JSON = "meted.json"

F = TypeVar("F", bound=Callable[..., Any])


class NoHouseError(click.ClickException):
    """No house runs, or it does not answer."""

    exit_code = NO_HOUSE


class RefusedError(click.ClickException):
    """The house runs but does not let this caller in."""

    exit_code = REFUSED


class Verbs(click.Group):
    """A group whose commands end with a sentence, not a traceback, when something known fails."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ConfigError, HomeError, StoreError) as error:
            raise click.ClickException(str(error)) from error


def _home(ctx: click.Context, param: click.Parameter, value: str | None) -> Home:
    """The home; one given before a subcommand holds for it."""
    if ctx.get_parameter_source("home") is ParameterSource.COMMANDLINE:
        ctx.meta[_HOME] = value
    return find_home(ctx.meta.get(_HOME, value))


def _as_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.meta[_JSON] = value or ctx.meta.get(_JSON, False)
    return ctx.meta[_JSON]


def common_options(command: F) -> F:
    """--home and --json, as every verb has them."""
    home = click.option(
        "--home",
        envvar="METED_HOME",
        callback=_home,
        help="Where the house keeps its state (METED_HOME; default: the data folder).",
    )
    as_json = click.option("--json", "as_json", is_flag=True, callback=_as_json, help="Print JSON.")
    return home(as_json(command))


def examples(*lines: str) -> str:
    """The examples at the end of a verb's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())
