#!/usr/bin/env bash
# `tickstream` as a reader calls it: world.sh says how.
set -euo pipefail

readonly SERVES_S=60 ENDS_S=60 INTERRUPT_S=4 DRAINS_S=3

servers() {
    local process
    for process in /proc/[0-9]*; do
        if [[ $(readlink "$process/exe") == "$TICKSTREAM_BIN" && $(tr '\0' ' ' < "$process/cmdline") == *" serve "* ]]; then
            echo "${process#/proc/}"
        fi
    done 2> /dev/null
}

# Ends the server of before, in order.
end() {
    local pids
    mapfile -t pids < <(servers)
    ((${#pids[@]})) || return 0
    kill -TERM "${pids[@]}" 2> /dev/null || true
    for ((tenth = 0; tenth < ENDS_S * 10; tenth++)); do
        # The code of a process that has ended is written a moment later.
        [[ -n $(servers) || ! -e $SCRATCH/.server.exit ]] || break
        sleep 0.1
    done
    if [[ -n $(servers) || $(< "$SCRATCH/.server.exit") != 0 ]]; then
        echo "the server of before doesn't end, or not with 0" >&2
        tail -5 "$SCRATCH/.server.log" >&2
        exit 1
    fi
}

# Starts a server, and returns once it serves.
start() {
    end
    rm -f "$SCRATCH/.server.exit" "$SCRATCH/.server.log"
    { code=0; "$TICKSTREAM_BIN" "$@" > /dev/null 2> "$SCRATCH/.server.log" < /dev/null || code=$?; echo "$code" > "$SCRATCH/.server.exit"; } &
    for ((tenth = 0; tenth < SERVES_S * 10; tenth++)); do
        ! grep -q '"message":"serving"' "$SCRATCH/.server.log" 2> /dev/null || return 0
        [[ ! -e $SCRATCH/.server.exit ]] || break
        sleep 0.1
    done
    echo "tickstream $* doesn't serve:" >&2
    cat "$SCRATCH/.server.log" >&2
    exit 1
}

case " $* " in
*" --help "* | *" --print-config "*) exec "$TICKSTREAM_BIN" "$@" ;;
" serve "*) start "$@" ;;
" top "*"--once"* | " watch "*"--count"*) exec timeout "$ENDS_S" "$TICKSTREAM_BIN" "$@" ;;
" top "* | *"--watch"*)
    # Takes a terminal.
    printf -v line '%q ' "$TICKSTREAM_BIN" "$@"
    { sleep "$INTERRUPT_S"; printf q; } | timeout "$ENDS_S" script --quiet --flush --return --command "$line" /dev/null
    ;;
" kick "*)
    # Asks on a terminal.
    printf -v line '%q ' "$TICKSTREAM_BIN" "$@"
    echo y | timeout "$ENDS_S" script --quiet --flush --return --command "$line" /dev/null
    ;;
" demo "* | " watch "* | " collect "* | *" tail "*"--admin"* | *" -f "* | *"--follow"*)
    exec timeout --preserve-status --signal=INT --kill-after="$ENDS_S" "$INTERRUPT_S" "$TICKSTREAM_BIN" "$@"
    ;;
" upgrade "*)
    # A process that an earlier upgrade replaced refuses another one while it drains, and its endpoint may still take the call.
    sleep "$DRAINS_S"
    exec timeout "$ENDS_S" "$TICKSTREAM_BIN" "$@"
    ;;
*) exec timeout "$ENDS_S" "$TICKSTREAM_BIN" "$@" ;;
esac
