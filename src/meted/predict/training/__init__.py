"""P for training: FLOPs, memory, step time, efficiency and goodput of a training run."""
