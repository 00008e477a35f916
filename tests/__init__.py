"""The tests, by distance from the metal."""
