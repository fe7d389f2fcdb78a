"""The doors: HTTP in front of the house, in the shapes that existing clients expect."""
