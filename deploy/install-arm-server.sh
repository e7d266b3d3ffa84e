#!/usr/bin/env bash
# Installs LiveMind as a service on an Arm (aarch64) server with systemd.
#
# What it does is printed first and nothing is done before you agree:
#   1  system packages: compiler, Python's headers and venv (apt or dnf)
#   2  the user "livemind", without login
#   3  this checkout is copied to /usr/local/lib/livemind and `make install` run there
#   4  the configuration goes to /etc/livemind/config.json, unless there is one
#   5  `livemind check` judges it on this machine; errors end the installation
#   6  the unit livemind.service is enabled and started
# Running it again updates the program and leaves the configuration alone.
set -euo pipefail

readonly PREFIX=/usr/local/lib/livemind
readonly CONFIG=/etc/livemind/config.json
readonly UNIT=/etc/systemd/system/livemind.service
SOURCE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly SOURCE

usage() {
    cat <<'END'
usage: sudo deploy/install-arm-server.sh [--config FILE] [--dry-run] [--yes] [--any-machine]
  --config FILE  configuration to install (default: configs/embedded.json)
  --dry-run      print every command instead of running it
  --yes          do not ask
  --any-machine  install on another processor than aarch64 as well
END
}

template="$SOURCE/configs/embedded.json" dry_run=false ask=true any_machine=false
while (($#)); do
    case $1 in
        --config)
            template=${2:?--config needs a file}
            shift
            ;;
        --dry-run) dry_run=true ;;
        --yes) ask=false ;;
        --any-machine) any_machine=true ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    shift
done

fail() {
    printf 'install-arm-server: %s\n' "$*" >&2
    exit 1
}

step() { printf '\n==> %s\n' "$*"; }

run() {
    printf '    %s\n' "$*"
    if ! $dry_run; then "$@"; fi
}

machine=$(uname -m)
[[ $machine == aarch64 ]] || $any_machine || $dry_run \
    || fail "this is $machine; --any-machine installs here as well"
[[ -r $template ]] || fail "$template cannot be read"
if ! $dry_run; then
    ((EUID == 0)) || fail "needs root: sudo $0"
    [[ -d /run/systemd/system ]] || fail "systemd does not run here"
fi

sed -n '2,/^set /{/^# /s/^# //p}' "${BASH_SOURCE[0]}"
printf '\nmachine %s, %s cores, memory %s GiB; from %s\n' "$machine" "$(nproc)" \
    "$(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo)" "$SOURCE"
if $ask && ! $dry_run; then
    read -r -p 'Go on? [y/N] ' answer
    [[ $answer == [yY]* ]] || exit 0
fi

step "1 system packages"
if command -v apt-get >/dev/null; then
    run apt-get update
    run apt-get install --yes g++ make git python3 python3-dev python3-venv libnuma1
elif command -v dnf >/dev/null; then
    run dnf install --assumeyes gcc-c++ make git python3.11 python3.11-devel numactl-libs
else
    printf '    neither apt-get nor dnf: g++, make and Python 3.11 with headers must be there\n'
fi

step "2 user livemind"
if id livemind >/dev/null 2>&1; then
    printf '    is there\n'
else
    run useradd --system --home-dir /var/lib/livemind --shell /usr/sbin/nologin livemind
fi

step "3 program in $PREFIX"
run mkdir -p "$PREFIX"
if [[ $SOURCE != "$PREFIX" ]]; then
    # Everything but what is built or belongs to a checkout; what is installed there stays.
    run tar --create --file "$PREFIX/.source.tar" --directory "$SOURCE" \
        --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./var --exclude=./.cache .
    run tar --extract --file "$PREFIX/.source.tar" --directory "$PREFIX" --no-same-owner
    run rm "$PREFIX/.source.tar"
fi
run make --directory "$PREFIX" install

step "4 configuration $CONFIG"
run mkdir -p "$(dirname "$CONFIG")"
if [[ -e $CONFIG ]]; then
    printf '    is there and stays\n'
else
    run install --mode=0644 "$template" "$CONFIG"
fi

step "5 check"
run "$PREFIX/.venv/bin/livemind" check "$CONFIG" \
    || fail "change $CONFIG as said above, then run this again"

step "6 service"
run install --mode=0644 "$PREFIX/deploy/livemind.service" "$UNIT"
run systemctl daemon-reload
run systemctl enable livemind.service
run systemctl restart livemind.service

printf '\nWhen the warm experts are loaded it answers on the address of its configuration:\n'
printf '    systemctl status livemind\n    journalctl -u livemind -f\n'
printf '    curl http://127.0.0.1:8000/ready\n'
