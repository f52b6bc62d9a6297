"""The local sandbox: native boxes of namespaces, an own root, seccomp, Landlock and cgroups.

Three processes take part, and the modules are sorted by where they run:

* the server, here: `provider`, `household` and `maker` make boxes, by `generation` and `planning`,
  through `zygote_process` and its `channel`; `orphans` ends what an earlier server left. A sandbox
  is `sandbox`, over the `lined` connection to its PID 1, with `gate`, `calls`, `listing`,
  `pausing`, `network`, `environment`, and `diff` with `raw_diff`. `commands` holds what a running
  command is, `selftest` what the machine can do, `bubblewrap` what stands in for the zygote;
* `zygote`: the process that boxes are cloned from;
* `box`: PID 1 of each box, and what the others share with it.

This file imports nothing, because the zygote and the boxes import it.
"""
