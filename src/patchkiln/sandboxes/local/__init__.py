"""The local sandbox: native boxes of namespaces, an own root, seccomp, Landlock and cgroups.

Three processes take part, and the modules are sorted by where they run.

* The server:

  * what makes boxes: `provider`, `selftest` and `diagnosis` with its `facts`, `household`, `maker`,
    `planning`, `tools`, `toolchain`, `zygote_process`, `orphans`;
  * one sandbox: `sandbox`, `generation`, `lined` with its `gate` and `clock`, `calls`, `listing`,
    `pausing`, `network`, `diff`, `raw_diff`, `copying`, `environment`;
  * one command: `execution`, `streams`, `inputs`, `outputs`, `pipes`, `terminals`;
  * bubblewrap in the zygote's place: `bubblewrap`, `bwrap_process`, `bwrap_command`,
    `bwrap_archive`, and `bwrap_root`, a process of its own.

* The zygote, one a server, standard library only: `zygote`, `blanks`, `layers`, `hostmounts`,
  `template`, `hierarchies`, `cgroups`.
* PID 1 of each box, cloned from the zygote: `bringup`, or `bwrap_agent` where bubblewrap made it;
  `rootfs`, `disk`, `flatten`, `loopback`, `hardening`, `seccomp`, `landlock`; then `init`,
  `processes`, `files`, `census`, `measuring`, `stillness`, `watchdog`.

`channel` is the server's end of a line to the zygote or a box; `wire`, `plan`, `layout`, `pids` and
`syscalls` are shared. This file imports nothing, because the zygote imports it.
"""
