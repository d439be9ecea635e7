#!/usr/bin/env bash
# Builds what the scripts here compare: the rivals, the load generator, and twistor's own echo.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${BENCH_TARGET:-$here/../../target}
export CARGO_TARGET_DIR=$target
cargo build --release --locked --manifest-path "$here/Cargo.toml"
cargo build --release --locked --manifest-path "$here/../Cargo.toml" --example echo
gcc -O2 -o "$target/release/echo_c" "$here/other/echo.c"
python3 -c 'import twisted, uvloop' 2>/dev/null || pip install -q twisted uvloop
echo "built in $target/release"
