"""go test: ``--- FAIL`` lines, each under the package line that follows them."""

from collections.abc import Sequence

from patchkiln.domain.outputs.report import FailureNames, SuiteReport

_NOT_BUILT = ("[build failed]", "[setup failed]")


def parse(lines: Sequence[str]) -> SuiteReport | None:
    """Return the failed tests by package; go test does not count what ran.

    A package that fails without naming a test (a panic, an exit) leaves the list incomplete.
    """
    names = FailureNames()
    pending: list[str] = []
    judged = built = 0
    complete = True
    for line in lines:
        text = line.lstrip(" ")
        if text.startswith("--- FAIL: "):
            pending.append(text[10:].rpartition(" (")[0])
        elif line.startswith(("panic: ", "fatal error: ")):
            complete = False
        elif line.startswith(("ok  \t", "FAIL\t")):
            package, _, rest = line.partition("\t")[2].partition("\t")
            failed, judged = line.startswith("FAIL"), judged + 1
            if package.endswith(_NOT_BUILT):
                pending = [""]
            elif "[no tests to run]" not in rest:
                built += 1
            complete &= not failed or bool(pending)
            for name in pending if failed else ():
                names.add(f"{package} {name}")
            pending = []
    if not judged:
        return None
    return SuiteReport(
        failures=frozenset(names.found),
        complete=complete and not names.overflow,
        problem="" if built else "No package with tests could be built.",
    )
