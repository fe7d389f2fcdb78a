"""What is wrong with a trace of jobs."""


class JobTraceError(ValueError):
    """A trace that cannot be read: which file and line, its value, what was expected."""
