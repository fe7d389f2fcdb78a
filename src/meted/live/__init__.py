"""The real world: clocks, processes, engines, trainers and the durable store."""
