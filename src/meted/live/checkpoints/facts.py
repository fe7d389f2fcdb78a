"""What is known of weights before they are converted, whatever their format."""

from collections.abc import Callable
from dataclasses import dataclass

from meted.domain.deployment import Task

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """A source that has been checked: it exists, is whole, and can be converted."""

    task: Task
    architecture: str
    context_tokens: int
    parameters: int


def silent(text: str) -> None:
    """Progress that nobody follows."""


def last_line(error: BaseException) -> str:
    """What libraries mean to say: the last line of their message, without its C++ origin."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
