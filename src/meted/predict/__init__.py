"""P = f(M, A, R): what a model, run by an algorithm on resources, will do."""
