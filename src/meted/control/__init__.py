"""The loop's pure heart: (state, event) -> (state, effects)."""
