# Runs in a fetch box: measures a commit's tree before anything is written.
# Prints "tree FILES BYTES", and "submodule PATH" for each of the first few. Stops counting past
# the limit, because a tree can name itself a million times.
# Arguments: commit, largest number of files.
set -eu
export GIT_DIR=/cache/objects.git
git ls-tree -r -l -z "$1" | tr '\n\000' '?\n' | head -n "$(($2 + 1))" | awk '
    $2 == "blob" { files++; bytes += $4 }
    $2 == "commit" { if (++modules <= 5) { sub(/^[^\t]*\t/, ""); print "submodule", $0 } }
    END { printf "tree %.0f %.0f\n", files + modules, bytes }'
