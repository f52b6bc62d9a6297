# Runs in a fetch box: brings one object and its history into /cache/objects.git.
# Prints the id of the commit that it names, or nothing where it names none.
# Arguments: URL, object id, depth (0: whole history), object format, largest file in 512 bytes.
set -eu
umask 022
url=$1 object=$2 depth=$3 format=$4 blocks=$5
max_packs=64
cd /cache

sweep() { # what a failed or killed git left; the entry's lock is held, so nobody is at work here
    find objects.git \( -name '*.lock' -o -name 'tmp_*' \) -delete
}

if [ -d objects.git ]; then
    sweep
    # Every fetch adds a pack, and git never repacks here: after many it is cheaper to start anew.
    packs=$(find objects.git/objects/pack -name '*.pack' | wc -l)
    [ "$packs" -lt "$max_packs" ] || rm -rf objects.git
fi
if [ ! -d objects.git ]; then
    rm -rf new.git
    git init --quiet --bare --template= --object-format="$format" new.git
    mv new.git objects.git
fi

export GIT_DIR=/cache/objects.git
history=
if [ "$depth" -eq 0 ]; then
    [ ! -e objects.git/shallow ] || history=--unshallow
elif [ -e objects.git/shallow ] || [ ! -d objects.git/refs/kept ]; then
    # A store that holds whole histories is never made shallow again.
    history=--depth=$depth
fi

give_up() {
    # Git does not always say why index-pack ended.
    full=$(find objects.git -name 'tmp_*' -size "$blocks")
    [ -z "$full" ] || echo 'File too large' >&2
    sweep
    exit "$1"
}

# The kernel ends a pack at the limit, however fast the remote sends.
ulimit -f "$blocks"
# shellcheck disable=SC2086 # nothing at all where there is no option
git fetch --progress --no-tags --no-write-fetch-head --no-recurse-submodules $history \
    -- "$url" "+$object:refs/kept/$object" || give_up $?
git rev-parse --quiet --verify "$object^{commit}" || true
