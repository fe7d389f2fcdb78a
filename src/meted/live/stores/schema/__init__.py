"""The books' tables, under the same names and with the same columns in every database.

Moments are wall-clock micros; an `hour` is counted from 1970-01-01T00Z. Empty text, not null,
stands for what an account does not have, so that accounts can be unique. Bodies are JSON.
"""
