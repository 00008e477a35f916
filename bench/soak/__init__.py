"""The soak: mixed traffic at one worker for minutes, and whether memory, tasks or descriptors grow meanwhile."""
