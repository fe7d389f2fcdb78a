"""The page: the house at a glance, from the same admin doors that the CLI uses."""
