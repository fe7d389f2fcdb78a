"""Which devices to have for a model's traffic, and for how much: wish in, plan out."""
