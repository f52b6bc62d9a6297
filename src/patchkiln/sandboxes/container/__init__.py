"""Sandboxes in containers: Podman or Docker make the namespaces, and our own PID 1 serves inside.

* the server: `provider`, `selftest`, `sandbox`, `maker`, `machine`, `lines`, `transfer`, `lent`,
  `engine`, `orphans`, `diagnosis`;
* PID 1 of each container, standard library only: `agent`, and from there on the modules that serve
  inside the boxes of `patchkiln.sandboxes.local`.
"""
