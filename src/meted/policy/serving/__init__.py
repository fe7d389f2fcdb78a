"""How many replicas each deployment is to have, of which kinds, and for how long."""
