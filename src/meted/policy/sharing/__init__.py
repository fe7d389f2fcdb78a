"""Serving and training on one pool: what serving needs first, the rest lent to jobs."""
