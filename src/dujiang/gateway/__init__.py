"""The exchange: one function that takes a call through all rooms, and the relay that streams the answer."""
