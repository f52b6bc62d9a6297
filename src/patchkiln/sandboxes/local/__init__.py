"""The local sandbox: native boxes of namespaces, an own root, seccomp, Landlock and cgroups.

Three processes take part, and the modules are sorted by where they run:

* the server: `provider`, `sandbox`, `execution`, `calls`, `channel`, `network`, `isolation`;
* the zygote, one a server, standard library only: `zygote`, `rootfs`, `cgroups`, `hostmounts`;
* PID 1 of each box, cloned from the zygote: `bringup`, `hardening`, `seccomp`, `landlock`, then
  `init`, `processes`, `files`, `watchdog`.

`syscalls`, `wire`, `plan` and `layout` are shared. This file imports nothing, because the zygote
imports it.
"""
