# Runs in a fetch box: makes an immutable working tree with a git directory of its own.
# Prints "lfs" where files are Git LFS pointers.
# Arguments: commit, name of the checkout, branch, object format.
set -eu
umask 022
commit=$1 name=$2 branch=$3 format=$4
new=/cache/checkouts/.new
rm -rf "$new"
mkdir -p "$new/.git/objects/info" "$new/.git/objects/pack" "$new/.git/info"
cd "$new/.git"

# Hard links cost nothing and outlive the store; a file system without them gets copies.
cp -l /cache/objects.git/objects/pack/pack-* objects/pack/ 2>/dev/null ||
    cp -f /cache/objects.git/objects/pack/pack-* objects/pack/
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
rm -rf "/cache/checkouts/$name"
mv "$new" "/cache/checkouts/$name"
