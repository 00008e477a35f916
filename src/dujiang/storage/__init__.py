"""Drivers for the ports that other rooms declare; all SQL stands in `.sql` files."""
