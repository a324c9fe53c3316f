#!/usr/bin/env bash
# Dependencies have an allowed licence and a known origin, and nobody has warned of them.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "SKIPPED: deny.sh: cargo-deny is not installed"
    exit 0
fi

cargo deny check bans licenses sources

# The advisories are the only part that needs the network.
if ! cargo deny fetch db; then
    echo "SKIPPED: deny.sh: the list of advisories could not be fetched"
    exit 0
fi
cargo deny check --disable-fetch advisories
