"""What is wrong with a fact: which one, what was found, what was expected, the next move."""


class FactError(ValueError):
    """A file of facts or a model's own description lacks a fact, or has a wrong one."""
