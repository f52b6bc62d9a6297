"""Keeps runs, events and patches: in one SQLite file, or in memory for one run and for tests."""
