# Runs in a clean room: a fresh box in which /workspace shows the final tree, in a layer of its own,
# and /base the untouched checkout. Prints sections, each "NAME SIZE", a newline and SIZE bytes.
# Arguments: largest new file and largest patch in bytes, exclude patterns, attributes.
set -eu
max_file=$1 max_patch=$2 exclude=$3 attributes=$4
room=/tmp/room work=/workspace base=/base
mkdir -m 700 "$room" "$room/lists"
export GIT_DIR="$room/git" GIT_WORK_TREE="$work" GIT_INDEX_FILE="$room/index"

# A git directory that nobody but this script has written, on the objects of the base.
head=$(GIT_DIR="$base/.git" git rev-parse --show-object-format HEAD)
format=${head%%
*} head=${head##*
}
mkdir -p "$GIT_DIR/refs" "$GIT_DIR/objects/info" "$GIT_DIR/info"
echo "$head" >"$GIT_DIR/HEAD"
echo "$base/.git/objects" >"$GIT_DIR/objects/info/alternates"
echo "$exclude" >"$GIT_DIR/info/exclude"
echo "$attributes" >"$GIT_DIR/info/attributes"
version=0 extensions=
[ "$format" = sha1 ] || version=1 extensions="[extensions]
objectFormat = $format"
cat >"$GIT_DIR/config" <<END
[core]
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
$extensions
END

# What git could not or must not take, and every file whose inode changed after the checkout: its
# change time is the kernel's word, while size and modification time can be made to look untouched.
chmod u+rwx "$work"
cd "$room/lists"
find "$work" -mindepth 1 -regextype posix-extended \
    -path "$work/.git" -prune -o \
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
only_new='
    for path; do
        [ -e "/base${path#/workspace}" ] || printf "%s\0" "$path"
    done'
xargs -0 -r sh -c "$only_new" - <large >new
cat refused special unreadable new | xargs -0 -r sh -c "$discard" -
xargs -0 -r sh -c "$restore" - <unreadable

# Entries without any times are read again, the others are as the checkout left them.
cp "$base/.git/index" "$GIT_INDEX_FILE"
if [ -s changed ]; then
    git update-index -z --force-remove --stdin <changed
    git read-tree --reset HEAD
fi
cd "$work"
git add --all
git ls-files --stage -z | sed -z -n 's/^160000 [^\t]*\t//p' |
    xargs -0 -r sh -c 'for path; do [ -z "$(ls -A "$path")" ] || printf "%s\0" "$path"; done' - \
        >"$room/lists/submodules"
cd "$room/lists"
cat refused special unreadable new >asked
: >ignored
if [ -s asked ]; then
    (cd "$work" && git check-ignore -z --stdin) <asked >ignored || [ $? -eq 1 ]
fi

git diff --cached --raw --numstat -z -M --no-ext-diff --no-textconv HEAD >changes
# The kernel ends a diff that grows past the limit.
(
    ulimit -f "$((max_patch / 512 + 1))"
    exec git diff --cached --binary --full-index -M --no-ext-diff --no-textconv --no-color \
        --src-prefix=a/ --dst-prefix=b/ HEAD >patch
) || [ "$(wc -c <patch)" -gt "$max_patch" ]
[ "$(wc -c <patch)" -le "$max_patch" ] || : >patch
for name in refused special unreadable new ignored submodules changes patch; do
    printf '%s %s\n' "$name" "$(wc -c <"$name")"
    cat "$name"
done
