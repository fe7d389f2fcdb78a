"""Every verb explains itself: an example, --json, and a place in docs/cli.md."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from meted.cli.main import main

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def verbs(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from verbs(command, f"{path} {name}")


ALL = dict(verbs(main, "meted"))


@pytest.mark.parametrize("path", ALL)
def test_verb_has_a_sentence_an_example_and_json(path: str) -> None:
    command = ALL[path]
    assert (command.help or "").strip()
    assert "Examples:" in (command.epilog or "")
    assert "meted " + path.split()[1] in (command.epilog or "")
    assert any("--json" in parameter.opts for parameter in command.params)
    assert any("--home" in parameter.opts for parameter in command.params)


@pytest.mark.parametrize("path", ALL)
def test_verb_and_its_options_are_in_the_docs(path: str) -> None:
    assert f"`{path}" in DOCS
    for parameter in ALL[path].params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert option in DOCS, f"{option} of {path}"


def test_docs_name_no_verb_that_is_not_there() -> None:
    named = {line.split("`")[1] for line in DOCS.splitlines() if line.startswith("## `meted ")}
    assert {heading.split()[1] for heading in named} == set(main.commands)
