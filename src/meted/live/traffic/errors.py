"""What is wrong with a traffic file or description."""


class TrafficError(ValueError):
    """Traffic that cannot be read: which line and column, its value, what was expected."""
