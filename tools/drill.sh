#!/usr/bin/env bash
# The drill with every fault, on a cluster of its own that is gone afterwards.
# Usage: tools/drill.sh [--short] [more options of `chatctl drill`]
set -euo pipefail
cd "$(dirname "$0")/.."

options=(--times 3 --duration 60)
if [[ "${1:-}" == --short ]]; then
  shift
  options=(--times 1 --duration 20 --users 60 --channels 20 --rate 60)
fi

data=$(mktemp -d "${TMPDIR:-/tmp}/chat-drill-XXXXXX")
.venv/bin/chatctl up examples/laptop.yaml --data "$data" --port 0 --json >"$data/up.jsonl" &
cluster=$!
# shellcheck disable=SC2329  # called by the trap
finish() {
  kill -TERM "$cluster" 2>/dev/null || true
  wait "$cluster" 2>/dev/null || true
  if [[ "${kept:-no}" == yes ]]; then rm -rf "$data"; else echo "its data and logs are in $data" >&2; fi
}
trap finish EXIT

for _ in $(seq 300); do
  grep -q '"event":"ready"' "$data/up.jsonl" && break
  kill -0 "$cluster" 2>/dev/null || { echo "the cluster did not start" >&2; exit 1; }
  sleep 0.1
done

.venv/bin/chatctl drill --data "$data" --fault all "${options[@]}" "$@"
kept=yes
