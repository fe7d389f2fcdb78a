"""R = f(M, C): from the models' demand and the pool to an allocation."""
