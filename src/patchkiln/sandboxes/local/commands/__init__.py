"""A running command of a box, seen from the server: its pipes, its terminal, its time."""
