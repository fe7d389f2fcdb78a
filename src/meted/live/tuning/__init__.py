"""Serving configurations measured: real replicas, recorded requests, the books' own cost."""
