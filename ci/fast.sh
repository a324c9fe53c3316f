#!/usr/bin/env bash
# The checks to run before every commit: under a minute once everything is built.
set -euo pipefail
cd "$(dirname "$0")"

./fmt.sh
./clippy.sh
