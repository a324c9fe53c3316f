#!/usr/bin/env bash
# All tests on optimised code without debug assertions: what people run must stand without them.
set -euo pipefail
cd "$(dirname "$0")/.."

# The release profile without whole-program optimisation, which would be paid once for each test binary and
# finds nothing here.
cargo test --workspace --profile smoke
