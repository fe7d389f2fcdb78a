"""Variants of a checkpoint: made by well-known libraries, measured, and let in only by the gate."""
