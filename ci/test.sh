#!/usr/bin/env bash
# All tests with debug assertions: unit, model, interface, tidy and documentation tests.
set -euo pipefail
cd "$(dirname "$0")/.."

# The command of the README, word for word.
cargo test --workspace
