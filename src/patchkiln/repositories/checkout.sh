# Runs in a fetch box: makes an immutable working tree with a git directory of its own.
# Prints the size of its objects in bytes, and "lfs" where files are Git LFS pointers.
# Arguments: commit, branch, object format.
set -eu
umask 022
commit=$1 branch=$2 format=$3
new=/cache/new
mkdir -p "$new/.git/objects/info" "$new/.git/objects/pack" "$new/.git/info"
cd "$new/.git"

# Copies, where the file system can it of shared blocks: through a hard link, another fetch box could
# change what this checkout consists of.
cp --reflink=auto /cache/objects.git/objects/pack/pack-* objects/pack/
find objects/pack -type f -printf '%s\n' | awk '{ size += $1 } END { printf "%.0f\n", size }'
[ ! -e /cache/objects.git/shallow ] || cp /cache/objects.git/shallow shallow

version=0 extensions=
if [ "$format" != sha1 ]; then
    version=1 extensions="
[extensions]
	objectformat = $format"
fi
cat >config <<END
[core]
	repositoryformatversion = $version
	bare = false
	filemode = true
	logallrefupdates = true
	checkStat = minimal
	trustctime = false$extensions
END
mkdir -p "refs/heads/$(dirname "$branch")"
echo "$commit" >"refs/heads/$branch"
echo "ref: refs/heads/$branch" >HEAD
# The working tree holds the blobs' own bytes, whatever the repository's attributes say.
echo '* -text -eol -ident -filter -working-tree-encoding !diff' >info/attributes

export GIT_DIR="$new/.git" GIT_WORK_TREE="$new"
cd "$new"
git read-tree --reset -u "$commit"
if git grep --cached --quiet --fixed-strings filter=lfs -- ':(glob)**/.gitattributes'; then
    echo lfs
fi
