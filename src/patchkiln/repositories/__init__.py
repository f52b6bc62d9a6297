"""Where repositories come from: git hosts, through a cache on the server's disk.

Git never runs on the host. Each fetch has a sandbox of its own, a *fetch box*, which sees of
the cache what it writes, and reaches one host and port:

* `source`: `GitRepositories`, the way of one fetch;
* `box`: the sandbox in which git runs, and what it is told; `scripts` is what runs inside;
* `cache`: the entries on disk and who uses them; `locks` keeps them apart; `eviction` drops what
  is too much, and `tidying` does so beside the runs;
* `addresses`, `refs`, `progress`, `failures`: pure, what git is asked and what it answered.
"""

from patchkiln.repositories.source import GitRepositories

__all__ = ["GitRepositories"]
