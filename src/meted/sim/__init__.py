"""The simulated world: control's own events and effects, on a clock that jumps."""
