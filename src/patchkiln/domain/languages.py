"""Which languages a repository is written in, told by the names of its files.

Data and prose (JSON, YAML, Markdown) are no languages here, as on GitHub: they would hide the code.
"""

from collections import Counter
from collections.abc import Iterable

from patchkiln.domain.project import TrackedFile

MAX_LANGUAGES = 12
VENDORED_DIRECTORIES = frozenset(
    {"node_modules", "vendor", "third_party", "site-packages", "bower_components", ".venv", "venv"}
)
_EXTENSIONS = {
    "Assembly": "asm",
    "C": "c h",
    "C#": "cs csx",
    "C++": "cc cpp cxx hh hpp hxx",
    "CMake": "cmake",
    "CSS": "css",
    "Clojure": "clj cljc cljs",
    "Cuda": "cu cuh",
    "Cython": "pxd pyx",
    "Dart": "dart",
    "Elixir": "ex exs",
    "Elm": "elm",
    "Erlang": "erl hrl",
    "F#": "fs fsi fsx",
    "Fortran": "f f90 f95",
    "Go": "go",
    "Groovy": "gradle groovy",
    "HCL": "hcl tf",
    "HTML": "htm html xhtml",
    "Haskell": "hs lhs",
    "Java": "java",
    "JavaScript": "cjs js jsx mjs",
    "Julia": "jl",
    "Kotlin": "kt kts",
    "Less": "less",
    "Lua": "lua",
    "Nix": "nix",
    "OCaml": "ml mli",
    "Objective-C": "m mm",
    "PHP": "php phtml",
    "Perl": "pl pm t",
    "PowerShell": "ps1 psm1",
    "Python": "py pyi pyw",
    "R": "r",
    "Ruby": "gemspec rake rb",
    "Rust": "rs",
    "SCSS": "sass scss",
    "SQL": "sql",
    "Scala": "sbt sc scala",
    "Shell": "bash bats ksh sh zsh",
    "Solidity": "sol",
    "Svelte": "svelte",
    "Swift": "swift",
    "TypeScript": "cts mts ts tsx",
    "Vue": "vue",
    "Zig": "zig",
}
_BY_EXTENSION = {
    extension: language
    for language, extensions in _EXTENSIONS.items()
    for extension in extensions.split()
}
_BY_NAME = {
    "BUILD.bazel": "Starlark",
    "CMakeLists.txt": "CMake",
    "Containerfile": "Dockerfile",
    "Dockerfile": "Dockerfile",
    "GNUmakefile": "Makefile",
    "Gemfile": "Ruby",
    "Jenkinsfile": "Groovy",
    "Justfile": "Just",
    "Makefile": "Makefile",
    "Rakefile": "Ruby",
    "justfile": "Just",
    "makefile": "Makefile",
    "meson.build": "Meson",
}


def language_of(path: str) -> str | None:
    """Return the language that a file's name tells, None for data, prose and the unknown."""
    name = path.rsplit("/", 1)[-1]
    if name in _BY_NAME:
        return _BY_NAME[name]
    stem, dot, extension = name.rpartition(".")
    return _BY_EXTENSION.get(extension.lower()) if dot and stem else None


def vendored(path: str) -> bool:
    """Tell whether a file lies in a directory that holds other people's code."""
    return not VENDORED_DIRECTORIES.isdisjoint(path.split("/")[:-1])


def language_shares(files: Iterable[TrackedFile]) -> tuple[tuple[str, float], ...]:
    """Return languages by falling share (0 to 1) of bytes, at most `MAX_LANGUAGES` of them.

    Where no size is known, the share is one of files. Vendored files do not count.
    """
    size_bytes: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for file in files:
        language = language_of(file.path)
        if language and not vendored(file.path):
            size_bytes[language] += file.size_bytes or 0
            count[language] += 1
    weights = size_bytes if size_bytes.total() else count
    total = weights.total()
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return tuple((name, round(weight / total, 4)) for name, weight in ranked[:MAX_LANGUAGES])
