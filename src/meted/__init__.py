"""Meted: cost control for large models that you run yourself."""

__version__ = "0.1.0"
