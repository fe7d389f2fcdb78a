"""The books: whose device time it was and what it cost, in integers that always add up."""
