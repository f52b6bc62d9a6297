"""Sandbox providers: adapters of `patchkiln.ports.sandbox`, interchangeable and blind to each other."""
