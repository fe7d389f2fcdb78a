"""What can go wrong in training that its user should read as a sentence."""


class TrainingError(Exception):
    """The job cannot go on: what stands in the way and what to do."""
