#!/usr/bin/env bash
# `systemctl` where it is asked for the server's process; there is no systemd on this machine.
[[ $* == "show --property MainPID --value tickstream" ]] || exit 1
for process in /proc/[0-9]*; do
    if [[ $(readlink "$process/exe") == "$TICKSTREAM_BIN" && $(tr '\0' ' ' < "$process/cmdline") == *" serve "* ]]; then
        echo "${process#/proc/}"
        exit
    fi
done
exit 1
