"""How much: the one record of each call, and what is counted from it."""
