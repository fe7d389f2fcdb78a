"""Built-in facts: architectures and device kinds by name, each with its source."""
