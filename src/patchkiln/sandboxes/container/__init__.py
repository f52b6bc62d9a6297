"""Sandboxes in containers: Podman or Docker make the namespaces, and our own PID 1 serves inside.

* the server: `provider`, `selftest`, `diagnosis`, `yard`, `maker`, `machine`, `sandbox`, `lines`,
  `transfer`, `premises` with `host`, `image` and `source`, `engine`, `orphans`;
* PID 1 of each container, standard library only: `agent`, and from there on the modules that serve
  inside the boxes of `patchkiln.sandboxes.local`;
* programs that run in a container while files are carried: `unlock`, `lock`.
"""
