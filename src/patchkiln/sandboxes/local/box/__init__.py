"""What runs in a box, as its PID 1, and what the other sides share with it.

`init` serves the server's requests with `processes`, `files`, `watchdog`, `census`, `measuring` and
`stillness`; `hardening`, `seccomp`, `landlock` and `loopback` are the last steps before it, and
`bwrap_agent` is the way there where bubblewrap made the box. `wire`, `plan`, `layout` and
`syscalls` are shared. Standard library only: containers and bubblewrap's boxes are given this
package. This file imports nothing, because a box imports it.
"""
