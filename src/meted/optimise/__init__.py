"""Which configuration is cheapest inside the SLO and the quality floor, and proof that it saves."""
