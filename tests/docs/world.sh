#!/usr/bin/env bash
# A reader's machine, in namespaces of its own (mount, network, process ids): world.sh SCRATCH SCRIPT
#
# Runs a script of the commands of a page in the folder SCRATCH. The names of the documentation lead to this machine; /etc,
# /run and /var/lib are the reader's own. `tickstream` is the binary TICKSTREAM_BIN, called as a reader would: serve goes on in
# another terminal, another serve ends it, and commands that go on by themselves get Ctrl-C after some seconds.
set -euo pipefail
shopt -s inherit_errexit
SCRATCH=$1 SCRIPT=$2
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

ip link set lo up
# Documentation's addresses of other machines.
ip address add 10.0.0.7/32 dev lo

# Journals want a disk, the rest none.
mkdir "$SCRATCH/.var-lib" "$SCRATCH/.world"
mount --bind "$SCRATCH/.var-lib" /var/lib
mount -t tmpfs tmpfs "$SCRATCH/.world"
mkdir "$SCRATCH/.world/upper" "$SCRATCH/.world/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$SCRATCH/.world/upper,workdir=$SCRATCH/.world/work" /etc
mount -t tmpfs tmpfs /run
mkdir /run/tickstream /run/secrets /etc/tickstream /var/lib/tickstream
mkdir -p /etc/bash_completion.d
echo "127.0.0.1 localhost stream.example standby.example a.example b.example other.example" > /etc/hosts
echo 0123456789abcdef0123456789abcdef > /etc/tickstream/token
cp "$HERE/../../deploy/systemd/tickstream.toml" /etc/tickstream/
printf secret > /run/secrets/pass

mkdir -p "$SCRATCH/.bin" "$SCRATCH/target/release"
for program in tickstream cargo systemctl my-agent; do
    ln -s "$HERE/$program.sh" "$SCRATCH/.bin/$program"
done
ln -s "$HERE/tickstream.sh" "$SCRATCH/target/release/tickstream"
# Files of a checkout that pages name.
ln -s "$HERE/../../config" "$SCRATCH/config"
export PATH=$SCRATCH/.bin:$PATH SCRATCH

cd "$SCRATCH"
exec bash "$SCRIPT"
