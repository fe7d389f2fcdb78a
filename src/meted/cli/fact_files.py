"""What verbs that read facts share: the option for further ones, and errors that name a fact."""

from pathlib import Path
from typing import Any

import click

from meted.cli.common import Verbs
from meted.domain.catalogue import UnknownFactError
from meted.live.facts import FactError, FactsFile, read_facts_file

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class FactVerbs(Verbs):
    """Ends with a sentence where a fact is missing, wrong or unknown."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (FactError, UnknownFactError) as error:
            raise click.ClickException(str(error)) from error


def facts_option(command: Any) -> Any:
    """--facts, as every verb that knows models and device kinds has it."""
    return click.option(
        "--facts",
        "facts_file",
        type=FILE,
        help="A YAML file that describes further models and device kinds.",
    )(command)


def read_facts(path: Path | None) -> FactsFile:
    """The facts of the file, none without one."""
    return FactsFile() if path is None else read_facts_file(path)
