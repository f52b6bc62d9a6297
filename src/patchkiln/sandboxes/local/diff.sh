# Runs in a clean room: a fresh box in which /workspace shows the final tree, in a layer of its own,
# and /base the untouched checkout. Prints a line "NAME SIZE" for each section, an empty line, and
# the sections. Needs GNU find, sed and stat; starts as few programs as it can.
# Arguments: largest new file and largest patch in bytes, exclude patterns, attributes.
set -eu
max_file=$1 max_patch=$2 exclude=$3 attributes=$4
room=/tmp/room work=/workspace base=/base
export GIT_DIR="$room/git" GIT_WORK_TREE="$work" GIT_INDEX_FILE="$room/index"

# A git directory that nobody but this script has written, on the objects of the base.
read -r head <"$base/.git/HEAD"
branch=$base/.git/${head#ref: }
if [ -f "$branch" ]; then
    read -r head <"$branch"
else
    head=$(GIT_DIR="$base/.git" git rev-parse HEAD)
fi
version=0 extensions=
[ ${#head} -eq 40 ] || version=1 extensions="[extensions]
objectFormat = sha256"
mkdir -p "$room/lists" "$GIT_DIR/refs" "$GIT_DIR/objects/info" "$GIT_DIR/info"
echo "$head" >"$GIT_DIR/HEAD"
echo "$base/.git/objects" >"$GIT_DIR/objects/info/alternates"
echo "$exclude" >"$GIT_DIR/info/exclude"
echo "$attributes" >"$GIT_DIR/info/attributes"
echo "[core]
repositoryFormatVersion = $version
bare = false
fileMode = true
symlinks = true
checkStat = minimal
trustctime = false
fsmonitor = false
untrackedCache = false
hooksPath = /dev/null
attributesFile = /dev/null
excludesFile = /dev/null
[gc]
auto = 0
$extensions" >"$GIT_DIR/config"

# What git could not or must not take, and every file whose inode changed after the checkout: its
# change time is the kernel's word, while size and modification time can be made to look untouched.
[ -r "$work" ] && [ -w "$work" ] && [ -x "$work" ] || chmod u+rwx "$work"
any=????????
for _ in 1 2 3 4 5 6 7 8 9; do any=$any$any; done # 4096, where git silently passes paths over
cd "$room/lists"
find "$work" -mindepth 1 -regextype posix-extended \
    -path "$work/.git" -prune -o \
    -path "$any*" -prune -fprint0 long -o \
    -iregex '.*[/\\](\.git|git~1)[ .]*([:\\][^/]*)?' -prune -fprint0 refused -o \
    -type l -iname '.gitmodules*' -fprint0 refused -o \
    \( -type p -o -type s -o -type b -o -type c \) -fprint0 special -o \
    \( -type f -o -type d \) ! -readable -prune -fprint0 unreadable -o \
    -type d ! -executable -prune -fprint0 unreadable -o \
    ! -type d -cnewer "$base/.git/index" -fprintf changed '%P\0' \
    -type f -size "+${max_file}c" -fprint0 large

# Removes from this room's own layer; a directory may forbid even its owner to do so.
discard='
    for path; do
        chmod u+rwx "${path%/*}"
        [ -L "$path" ] || chmod -R u+rwX "$path"
        rm -rf "$path"
    done'
restore='
    for path; do
        of_base="/base${path#/workspace}"
        [ ! -e "$of_base" ] || cp -a "$of_base" "$path"
    done'
populated='
    for path; do
        [ -z "$(ls -A "$path")" ] || printf "%s\0" "$path"
    done'
only_new='
    for path; do
        [ -e "/base${path#/workspace}" ] || printf "%s\0" "$path"
    done'
each() { # script, lists: run the script on every name of the lists
    script=$1
    shift
    cat "$@" | xargs -0 -r sh -c "$script" -
}
: >new
[ ! -s large ] || each "$only_new" large >new
cat refused special unreadable new >left_out
[ ! -s left_out ] || each "$discard" left_out
[ ! -s unreadable ] || each "$restore" unreadable

# Entries without any times are read again, the others are as the checkout left them.
cp "$base/.git/index" "$GIT_INDEX_FILE"
if [ -s changed ]; then
    git update-index -z --force-remove --stdin <changed
    git read-tree --reset HEAD
fi
(cd "$work" && git add --all)
: >submodules
: >ignored
if [ -s changed ]; then
    git ls-files --stage -z | sed -z -n 's|^160000 [^\t]*\t|/workspace/|p' >links
    [ ! -s links ] || each "$populated" links >submodules
fi
if [ -s left_out ]; then
    (cd "$work" && git check-ignore -z --stdin) <left_out >ignored || [ $? -eq 1 ]
fi

git diff --cached --raw --numstat -z -M --no-ext-diff --no-textconv HEAD >changes
# The kernel ends a diff that grows past the limit.
(
    ulimit -f "$((max_patch / 512 + 1))"
    exec git diff --cached --binary --full-index -M --no-ext-diff --no-textconv --no-color \
        --src-prefix=a/ --dst-prefix=b/ HEAD >patch
) || [ "$(stat -c %s patch)" -gt "$max_patch" ]
set -- refused special unreadable new long ignored submodules changes patch
stat -c '%n %s' "$@"
echo
cat "$@"
