# Functions shared by the scripts. Sourced by bash in the repository's root.
# shellcheck shell=bash

cache=${HOLDFAST_CACHE:-/var/cache/holdfast}

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
have() { PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, with this PATH: Node.js may not be in root's.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  have sudo || die "this needs root, and sudo is not installed: run it as root"
  sudo env "PATH=$PATH" "$@"
}

# wait_until SECONDS COMMAND…: retries the command; fails if it does not succeed in time.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

# Succeeds when none of these processes is alive. A zombie counts as ended.
have_ended() {
  local pid
  for pid in "$@"; do
    if grep -qs '^State:.[^Z]' "/proc/$pid/status"; then return 1; fi
  done
}

# Unmounts everything at and below these directories, deepest first.
unmount_below() {
  local directory point
  for directory in "$@"; do
    awk -v dir="$directory" '$5 == dir || index($5, dir "/") == 1 { print $5 }' /proc/self/mountinfo | sort -r |
      while read -r point; do as_root umount -l "$point"; done
  done
}

# Each package after the command, or the file, that it is needed for.
runtime_packages='
runc runc
/usr/share/containers/seccomp.json golang-github-containers-common
iptables iptables
ip iproute2
ps procps
tini tini
modprobe kmod
curl curl
zstd zstd
xz xz-utils
'
test_packages='
crun crun
nft nftables
debootstrap debootstrap
openssl openssl
docker-compose docker-compose
script bsdutils
/usr/lib/python3/dist-packages/docker/__init__.py python3-docker
'

missing_packages() {
  local need package
  while read -r need package; do
    case $need in
      '') ;;
      /*) [ -e "$need" ] || echo "$package" ;;
      *) have "$need" || echo "$package" ;;
    esac
  done <<<"$1"
  # A dynamic busybox would not run in an image without libraries.
  if [ -z "$(static_busybox)" ]; then echo busybox-static; fi
}

static_busybox() {
  local path
  path=$(PATH="$PATH:/bin:/sbin:/usr/sbin" command -v busybox) || return 0
  # The first page of a dynamic program names its interpreter.
  if ! head -c 4096 "$path" | grep -qa 'ld-linux\|ld-musl'; then readlink -f "$path"; fi
}

# apt-get without prompts.
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null; }

apt_updated=
apt_install() {
  [ $# -gt 0 ] || return 0
  have apt-get || die "missing: $*. There is no apt-get on this host: install the packages that provide them, then run this again."
  say "Installing $*"
  if [ -z "$apt_updated" ]; then apt update && apt_updated=yes; fi
  apt install -y --no-install-recommends "$@" >&2
}

install_packages() {
  local list missing
  for list in "$@"; do
    mapfile -t missing < <(missing_packages "$list" | sort -u)
    apt_install "${missing[@]}"
  done
}

# Path of the stock docker CLI: the installed one, else Debian's, which is unpacked and not installed, because its package
# would start a daemon.
docker_cli() {
  command -v docker && return
  local unpacked=$cache/docker.io/usr/bin/docker
  [ -x "$unpacked" ] || unpack_deb docker.io
  echo "$unpacked"
}

# Path of a real registry for tests, unpacked and not installed, because its package would start a service.
registry_program() {
  command -v docker-registry && return
  local unpacked=$cache/docker-registry/usr/bin/docker-registry
  [ -x "$unpacked" ] || unpack_deb docker-registry
  echo "$unpacked"
}

# Unpacks a Debian package under the cache without installing it.
unpack_deb() {
  local package=$1 download
  have apt-get || die "missing: $package. Install it, then run this again."
  say "Downloading Debian's $package (unpacked to $cache/$package, not installed)"
  if [ -z "$apt_updated" ]; then apt update && apt_updated=yes; fi
  download=$(mktemp -d)
  # As root: apt's own user cannot write to this directory.
  (cd "$download" && apt-get -qq -o APT::Sandbox::User=root download "$package" >&2) || die "cannot download $package"
  as_root mkdir -p "$cache"
  as_root dpkg-deb -x "$download"/*.deb "$cache/$package.new"
  as_root rm -rf "${cache:?}/$package"
  as_root mv "$cache/$package.new" "$cache/$package"
  rm -rf "$download"
}

check_node() {
  have node || die "Node.js is not installed; install version 20.19 or later (with npm)"
  have npm || die "npm is not installed (it comes with Node.js)"
  node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
    || die "Node.js $(node --version) is too old; install 20.19 or later"
}
