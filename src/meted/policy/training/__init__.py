"""Policies for training jobs on devices that have one user at a time, of one kind or several."""
