"""What a sandbox may reach, enforced on the host: the same for every provider.

A sandbox has no network but its own loopback. Sockets that listen there are opened inside and
passed out; the server accepts on them, judges, and dials for the sandbox (docs/adr/0009).
"""
