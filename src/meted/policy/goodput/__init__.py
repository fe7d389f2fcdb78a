"""Elastic jobs: how many devices each gets, by the goodput it makes of them."""
