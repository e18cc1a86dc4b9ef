# Shared by the scripts of this directory; sourced, never run.

# Where the repository is.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ -t 2 ]; then BOLD=$'\e[1m'; DIM=$'\e[2m'; RED=$'\e[31m'; GREEN=$'\e[32m'; PLAIN=$'\e[0m'; else BOLD='' DIM='' RED='' GREEN='' PLAIN=''; fi

# Messages for people go to stderr; stdout is for results.
say() { printf '%s\n' "$*" >&2; }
title() { printf '\n%s== %s%s\n' "$BOLD" "$*" "$PLAIN" >&2; }
die() {
    printf '%s%s: %s%s\n' "$RED" "$(basename "$0")" "$*" "$PLAIN" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "network namespaces and TUN devices need root: run it as root, for example with 'sudo -E $0'"
    [ "$(uname -s)" = Linux ] || die "this runs on Linux only"
    [ -c /dev/net/tun ] || die "/dev/net/tun is missing: load the module with 'modprobe tun' (in a container, pass --device /dev/net/tun and --cap-add NET_ADMIN)"
}

# need_commands COMMAND:PACKAGE[,PACKAGE] ... - installs the packages whose command is not there.
need_commands() {
    local pair packages missing=()
    for pair in "$@"; do
        packages=${pair#*:}
        # shellcheck disable=SC2206
        command -v "${pair%%:*}" >/dev/null || missing+=(${packages//,/ })
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        die "missing: ${missing[*]} (names of Debian packages). Only apt-get is known to this script; install them by your system's means and run it again"
    [ "$(id -u)" = 0 ] || die "missing: ${missing[*]}. Run as root, or first 'apt-get install ${missing[*]}'"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # The package lists of a fresh image are empty, those of an old one stale: fetch them once something is missing.
    apt-get update -qq >&2 </dev/null || say "apt-get update failed; trying with the package lists that are here"
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2 </dev/null ||
        die "apt-get could not install ${missing[*]}"
}

# A Rust toolchain that is new enough. need_rust [COMPONENT ...]
need_rust() {
    local want have
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    [ -d "${CARGO_HOME:-$HOME/.cargo}/bin" ] && PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    have=$(cd "$ROOT" && cargo --version 2>/dev/null | awk '{print $2}') || true
    if [ -z "$have" ] || [ "$(printf '%s\n' "$want" "${have%%-*}" | sort -V | head -n 1)" != "$want" ]; then
        # Distributions that carry rustup (Debian since 13) can install it; elsewhere it is the reader's choice how.
        if ! command -v rustup >/dev/null; then
            (need_commands rustup:rustup) || true
            command -v rustup >/dev/null ||
                die "no Rust $want or newer here${have:+ (found $have)}: install it, for example with rustup (https://rustup.rs), and run this again"
        fi
        say "Rust ${have:-is missing} here, $want is needed: updating with rustup"
        rustup toolchain install stable --profile minimal >&2 || die "rustup could not install Rust $want"
        export RUSTUP_TOOLCHAIN=stable
    fi
    local component
    for component in "$@"; do
        case $component in
            clippy) cargo clippy --version >/dev/null 2>&1 && continue ;;
            rustfmt) cargo fmt --version >/dev/null 2>&1 && continue ;;
        esac
        command -v rustup >/dev/null || die "cargo has no $component: install it beside cargo, or use rustup (https://rustup.rs)"
        rustup component add "$component" >&2 || die "rustup could not add $component"
    done
    # Crates are linked by the system's C compiler, and one of them has a C file.
    need_commands cc:gcc,libc6-dev
}
