#!/usr/bin/env bash
# `cargo` as the documentation calls it: what it would build is there.
case $* in
"build --release" | "build --release --locked") ;;
"run --release -- "*)
    shift 3
    exec tickstream "$@"
    ;;
*)
    echo "tests/docs/cargo.sh doesn't know: cargo $*" >&2
    exit 1
    ;;
esac
