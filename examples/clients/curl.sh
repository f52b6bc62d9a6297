#!/usr/bin/env bash
# A client in curl: starts a run, prints its frames as they come, then its patch.
#
#     examples/clients/curl.sh [REPO] [PROMPT]
#
# The server is http://localhost:8000, or PATCHKILN_SERVER; PATCHKILN_KEY is its API key, where it
# wants one. The exit code is 0 where the run ended with a change, or with none to make, else 1.
set -euo pipefail

server=${PATCHKILN_SERVER:-http://localhost:8000}
repo=${1:-https://github.com/octocat/Hello-World.git}
prompt=${2:-Add better error handling}

files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT

# The key goes through a file of our own: what stands on a command line is seen by everyone on the machine.
touch "$files/config"
if [ -n "${PATCHKILN_KEY:-}" ]; then
  printf 'header = "Authorization: Bearer %s"\n' "$PATCHKILN_KEY" >"$files/config"
fi

# Quotes and line breaks of a prompt are JSON's business, not the shell's.
python3 -c 'import json, sys; print(json.dumps({"repoUrl": sys.argv[1], "prompt": sys.argv[2]}))' \
  "$repo" "$prompt" >"$files/body"

curl --config "$files/config" --silent --show-error --no-buffer --dump-header "$files/head" \
  --header 'Content-Type: application/json' --header 'Accept: text/event-stream' \
  --data @"$files/body" "$server/code" | tee "$files/frames"

run=$(tr -d '\r' <"$files/head" | sed -n 's/^x-run-id: //Ip')
summary=$(grep '^data: {"type":"summary"' "$files/frames" || true)
case $summary in
  *'"outcome":"changed"'* | *'"outcome":"no_change"'*) ;;
  *) exit 1 ;;
esac
curl --config "$files/config" --silent --show-error --fail "$server/runs/$run/patch"
