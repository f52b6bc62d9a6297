"""The probes of the sandbox: what hostile code tries, and what came of it on the host.

`numbered.TITLES` is the whole list. A *portable* probe is a program that runs in any sandbox, with
Python's standard library alone, and is judged by what it brought out and by what the host saw of
it; those are in `PORTABLE`. The rest speaks to the product's own calls and lives in tests that are
marked with their numbers.
"""

from tests.security.sandbox.probes import files, ipc_network, kernel, resources

PORTABLE = (*files.PROBES, *kernel.PROBES, *ipc_network.PROBES, *resources.PROBES)
