# What a box sees and may do, one finding a line. $1: a directory of the host that it must not see.
while read -r key value _; do
    case $key in
    Uid: | CapEff: | NoNewPrivs: | Seccomp:) echo "$key $value" ;;
    esac
done </proc/self/status
set -- "$1" /proc/[0-9]*
[ $# -lt 6 ] && echo "processes own"
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
