"""The outside: one HTTP client, an adapter per wire protocol, vendor profiles as data, health and choice."""
