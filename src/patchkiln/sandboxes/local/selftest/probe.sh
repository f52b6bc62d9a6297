# What a box sees and may do, one finding a line. $1: a directory of the host that it must not see.
while read -r key value _; do
    case $key in
    Uid: | CapEff: | NoNewPrivs: | Seccomp:) echo "$key $value" ;;
    esac
done </proc/self/status
set -- "$1" /proc/[0-9]*
[ $# -lt 6 ] && echo "processes own"
# The numbers of /proc may be another namespace's, and $$ is not.
read -r own _ </proc/self/stat
read -r line <"/proc/$own/maps" && [ -e "/proc/$own/root/etc" ] && echo "control works"
exposed=
scores=
for process in /proc/[0-9]*; do
    [ "$process" = "/proc/$own" ] && continue
    for inside in environ maps; do
        # One of a thread of the kernel's opens, and is empty.
        line=
        read -r line 2>/dev/null <"$process/$inside"
        [ -n "$line" ] && exposed=yes
    done
    for inside in root/etc cwd/. fd/0 ns/pid; do
        [ -e "$process/$inside" ] && exposed=yes
    done
    true 2>/dev/null >>"$process/oom_score_adj" && scores=writable
done
echo "exposed $exposed"
echo "scores $scores"
routes=0
while read -r _; do routes=$((routes + 1)); done </proc/net/route
echo "routes $((routes - 1))"
(: >/usr/.patchkiln) 2>/dev/null && echo "system writable"
(: >/etc/.patchkiln) 2>/dev/null && echo "settings writable"
[ -e /etc/shadow ] && echo "passwords visible"
[ -e "$1" ] && echo "host visible"
(: >new) 2>/dev/null && echo "workspace writable"
rm -r kept && mkdir kept && : >kept/new && echo "overlay works"
exit 0
