# The daemon of ./scripts/up and ./scripts/down: its paths, its API, its start. Sourced by bash after common.sh.
# shellcheck shell=bash
#
# Both scripts read HOLDFAST_DATA_ROOT, HOLDFAST_EXEC_ROOT and HOLDFAST_HOST from the environment, like the daemon.

data_root=${HOLDFAST_DATA_ROOT:-/var/lib/holdfast}
exec_root=${HOLDFAST_EXEC_ROOT:-/run/holdfast}
host=${HOLDFAST_HOST:-unix://$exec_root/holdfast.sock}
socket=${host#unix://}
pidfile=${HOLDFAST_PIDFILE:-$exec_root/holdfastd.pid}

# What `up` created and `down` has to remove, one word per line: roots, daemon, image.
notes=$data_root/.up
log=$data_root/holdfastd.log

greeter=holdfast-hello
image=busybox:latest

noted() { as_root grep -qsx "$1" "$notes"; }
note() { noted "$1" || as_root sh -c 'echo "$1" >>"$2"' sh "$1" "$notes"; }

# api METHOD PATH [curl options]: prints the body; fails on an HTTP error.
api() {
  local method=$1 path=$2
  shift 2
  as_root curl -sS --fail-with-body --unix-socket "$socket" -X "$method" "$@" "http://localhost$path"
}

responds() { as_root curl -fsS --max-time 2 --unix-socket "$socket" http://localhost/_ping >/dev/null 2>&1; }

# Prints the daemon's PID; fails if that process is not a running holdfastd.
daemon_pid() {
  local pid
  pid=$(as_root cat "$pidfile" 2>/dev/null) || return 1
  as_root grep -qs holdfastd "/proc/$pid/cmdline" && echo "$pid"
}

# json EXPRESSION: evaluates it with the JSON on stdin as `it`; prints one line per value.
json() { node -e 'const it = JSON.parse(require("fs").readFileSync(0)); for (const value of [eval(process.argv[1])].flat()) console.log(value)' "$1"; }

# Starts the daemon in its own session, without our descriptors, so that it outlives this script and its terminal.
launch_daemon() {
  local pid
  # shellcheck disable=SC2016
  pid=$(as_root sh -c 'cd / && { setsid "$@" </dev/null >>"$0" 2>&1 & echo $!; }' "$log" \
    env "HOLDFAST_DATA_ROOT=$data_root" "HOLDFAST_EXEC_ROOT=$exec_root" "HOLDFAST_HOST=$host" "HOLDFAST_PIDFILE=$pidfile" \
    ${HOLDFAST_BIP:+"HOLDFAST_BIP=$HOLDFAST_BIP"} "$PWD/bin/holdfastd")
  if wait_until 30 responds_or_ended "$pid" && responds; then return; fi
  as_root tail -n 20 "$log" >&2
  die "the daemon does not respond; see $log, and the output of './bin/holdfastd check'"
}

responds_or_ended() { responds || have_ended "$1"; }
