"""Inference engines, each in a replica's process; they are imported nowhere else."""
