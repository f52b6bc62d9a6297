# Runs in a fetch box: measures a commit's tree before anything is written.
# Prints "tree FILES DIRECTORIES BYTES EXTRA", and "submodule PATH" for each of the first few. EXTRA is
# what the directories and the index, which holds every path in full, take beside the files. Stops
# counting past the limit, because a tree can name itself a million times.
# Arguments: commit, largest number of files and directories.
set -eu
export GIT_DIR=/cache/objects.git
git ls-tree -r -t -l -z "$1" | tr '\n\000' '?\n' | head -n "$(($2 + 1))" | awk '
    { extra += length($0) }
    $2 == "tree" { directories++; extra += 4096 }
    $2 == "blob" { files++; bytes += $4 }
    $2 == "commit" { if (++modules <= 5) { sub(/^[^\t]*\t/, ""); print "submodule", $0 } }
    END { printf "tree %.0f %.0f %.0f %.0f\n", files + modules, directories, bytes, extra }'
