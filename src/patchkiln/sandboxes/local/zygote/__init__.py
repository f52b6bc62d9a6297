"""The process that boxes are cloned from, one a server: small and without secrets.

`main` serves the server's requests. `blanks` clones boxes and keeps a few; `bringup` takes a clone
to its `init` by `template`, `rootfs`, `disk` and `hostmounts`; `layers` holds what boxes wrote,
`flatten` joins long chains of it; `cgroups` and `hierarchies` bound what boxes use. Standard
library only. This file imports nothing, because the zygote imports it.
"""
