# Runs in a fetch box: brings one object and its history into /cache/objects.git.
# Prints the id of the commit that it names, or nothing where it names none.
# Arguments: URL, object id, depth (0: whole history), object format, largest file in 512 bytes,
# and something where what the store holds is no good.
set -eu
umask 022
url=$1 object=$2 depth=$3 format=$4 blocks=$5 anew=$6
max_packs=64
cd /cache

# Every fetch adds a pack, and git never repacks here: after many it is cheaper to start anew.
if [ -n "$anew" ] || [ "$(find objects.git -name '*.pack' | wc -l)" -ge "$max_packs" ]; then
    find objects.git -mindepth 1 -delete
fi
[ -e objects.git/HEAD ] ||
    git init --quiet --bare --template= --object-format="$format" objects.git

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
    find objects.git \( -name '*.lock' -o -name 'tmp_*' \) -delete
    exit "$1"
}

# The kernel ends a pack at the limit, however fast the remote sends.
ulimit -f "$blocks"
# shellcheck disable=SC2086 # nothing at all where there is no option
git fetch --progress --no-tags --no-write-fetch-head --no-recurse-submodules $history \
    -- "$url" "+$object:refs/kept/$object" || give_up $?
git rev-parse --quiet --verify "$object^{commit}" || true
