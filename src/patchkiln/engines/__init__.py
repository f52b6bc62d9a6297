"""Carries runs out: durably with DBOS, or in memory for one run and for tests."""
