"""Sandbox providers: interchangeable adapters of one port, blind to each other."""
