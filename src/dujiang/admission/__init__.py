"""Who may go, and when: limits, reservations over all of them at once, and the queue in front."""
