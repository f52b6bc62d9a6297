# Runs in a clean room: a fresh box in which /workspace shows the final tree, in a layer of its own,
# and /base the untouched checkout. Prints the lists below, each of them names that end in NUL and
# after the last one a NUL, then git's list of changes in the same form, then the patch. Needs GNU
# find, grep, sed, sort, comm and tar, and starts as few programs as it can.
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
protectHFS = true
protectNTFS = true
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
# Git refuses every spelling of its own names on HFS+ and NTFS: with characters that the former does
# not see (utf8.c, next_hfs_char), with endings and short names that the latter takes for the same.
h=$(printf '(\342\200[\214-\217\252-\256]|\342\201[\252-\257]|\357\273\277)*')
dot_git="(\\.git|git~1)[ .]*([:\\\\][^/]*)?|$h\\.${h}g${h}i${h}t$h"
dot_modules="\\.gitmodules[^/]*|$h\\.${h}g${h}i${h}t${h}m${h}o${h}d${h}u${h}l${h}e${h}s$h"
short_modules='(gitmod~[1-4]|gi7eba~[1-9])[ .:][^/]*|gitmod~[1-4]|gi7eba~[1-9]'
any=????????
for _ in 1 2 3 4 5 6 7 8 9; do any=$any$any; done # 4096, where git silently passes paths over
cd "$room/lists"
find "$work" -mindepth 1 -regextype posix-extended \
    -path "$work/.git" -prune -o \
    -path "$any*" -prune -fprint0 long -o \
    -iregex ".*[/\\\\]($dot_git)" -prune -fprint0 refused -o \
    -type l -iregex ".*/($dot_modules|$short_modules)" -fprint0 refused -o \
    \( -type p -o -type s -o -type b -o -type c \) -fprint0 special -o \
    \( -type f -o -type d \) ! -readable -prune -fprint0 unreadable -o \
    -type d ! -executable -prune -fprint0 unreadable -o \
    ! -type d -cnewer "$base/.git/index" -fprintf changed '%P\0' \
    \( -name .gitignore -fprintf rules '%P\0' -o -true \) \
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
populated='
    for path; do
        [ -z "$(ls -A "$path")" ] || printf "%s\0" "$path"
    done'
each() { # list, script: run the script on every name of the list
    [ ! -s "$1" ] || xargs -0 sh -c "$2" - <"$1"
}
each large "$only_new" >new
: >left_out
if [ -s refused ] || [ -s special ] || [ -s unreadable ] || [ -s new ]; then
    cat refused special unreadable new >left_out
fi
each left_out "$discard"
each unreadable "$restore"

# Entries without any times are read again, the others are as the checkout left them.
cp "$base/.git/index" "$GIT_INDEX_FILE"
if [ -s changed ]; then
    git update-index -z --force-remove --stdin <changed
    git read-tree --reset HEAD
fi

# New files are judged by the base's ignore rules, not by those that the box wrote: they could hide
# anything. So the box's .gitignore files make way meanwhile. Where the index says that a file is
# left out of the tree, git reads the base's rules from there; where the base has none, an empty file
# stands in and is judged as any other.
lists=$PWD rules=':(glob)**/.gitignore'
cd "$work"
still_there='
    for path; do
        directory=./${path%.gitignore}
        [ -w "$directory" ] || chmod u+rwx "$directory"
        [ ! -e "$path" ] && [ ! -L "$path" ] || printf "%s\0" "$path"
    done'
each "$lists/rules" "$still_there" | sort -z >"$lists/away"
if [ -s "$lists/away" ]; then
    tar -c -f "$room/away" --no-recursion --null --verbatim-files-from -T "$lists/away"
    xargs -0 rm -f -- <"$lists/away"
fi
git ls-files -z --deleted -- "$rules" >"$lists/gone"
if [ -s "$lists/away" ]; then
    comm -z -23 "$lists/away" "$lists/gone" | xargs -0 -r touch --
fi
[ ! -s "$lists/gone" ] || git update-index -z --skip-worktree --stdin <"$lists/gone"
git add --all
: >"$lists/ignored"
if [ -s "$lists/left_out" ]; then
    git check-ignore -z --stdin <"$lists/left_out" >"$lists/ignored" || [ $? -eq 1 ]
fi
if [ -s "$lists/gone" ]; then # but for those whose directory is a file now
    git ls-files -z -- "$rules" | comm -z -12 - "$lists/gone" |
        git update-index -z --no-skip-worktree --stdin
fi
[ ! -s "$lists/away" ] || tar -x -p -f "$room/away"
[ ! -s "$lists/away" ] && [ ! -s "$lists/gone" ] || git add --update
cd "$lists"

# Git looks into no submodule. The bytes are a submodule's mode in the index; where grep cannot say,
# the index is listed.
: >links
if [ -s changed ] && { grep -qaP '\0\0\xe0\0' "$GIT_INDEX_FILE" || [ $? -gt 1 ]; }; then
    git ls-files --stage -z | sed -z -n 's|^160000 [^\t]*\t|/workspace/|p' >links
fi
each links "$populated" >submodules

git diff --cached --raw --numstat -z -M --no-ext-diff --no-textconv HEAD >changes
# The kernel ends a diff that grows past the limit.
(
    ulimit -f "$((max_patch / 512 + 1))"
    exec git diff --cached --binary --full-index -M --no-ext-diff --no-textconv --no-color \
        --src-prefix=a/ --dst-prefix=b/ HEAD >patch
) || [ "$(stat -c %s patch)" -gt "$max_patch" ]
printf '\0' >end
cat refused end special end unreadable end new end long end submodules end ignored end \
    changes end patch
