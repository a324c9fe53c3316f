#!/usr/bin/env bash
# All tests on optimised code without debug assertions: what people run must stand without them.
set -euo pipefail
cd "$(dirname "$0")/.."

# The release profile links with whole-program optimisation, which would be paid once for each test
# binary and finds nothing here. The target directory is its own, so that the change of profile
# does not throw the build of the program away.
export CARGO_PROFILE_RELEASE_LTO=false
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/test-release cargo test --workspace --release
