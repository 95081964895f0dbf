#!/usr/bin/env bash
# Tries the packages on a Debian of its own: probe.sh OLD.deb NEW.deb [JOURNAL], in a chroot or under systemd.
#
# Prints "PASS …" or "FAIL …" and what was said for each thing, and "END". Without systemd it starts the server as the unit says: its
# command, environment, user, directories and credential.
# shellcheck disable=SC2016,SC2034 # what is checked is run by eval
set -uo pipefail
OLD=$1 NEW=$2
CONFIG=/etc/tickstream/tickstream.toml
PASSWORD=/etc/tickstream/stream_pass
EVENTS=/var/lib/tickstream/events
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

check() {
    if eval "$2" > /tmp/said 2>&1; then echo "PASS $1"; else echo "FAIL $1"; sed 's/^/     /' /tmp/said; fi
}
has_systemd() { [[ -d /run/systemd/system ]]; }
client() { STREAM_USER=ticks TICKSTREAM_STREAM_PASS_FILE=$PASSWORD tickstream "$@"; }
event() { echo '{"platform":"linux","event_type":"log","event_name":"up","log":{"service":"package","level":"info","message":"up"}}' | client publish; }
# An event by the collector's own API.
collected() {
    local body='{"platform":"linux","event_type":"log","event_name":"up","log":{"service":"package","level":"info","message":"by HTTP, '$RANDOM'"}}'
    exec 3<> /dev/tcp/127.0.0.1/8080 || return
    printf 'POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' ${#body} "$body" >&3
    grep -F '"accepted":1' <&3
}
events() { (($(tickstream events export "$EVENTS" | wc -l) == $1)); }
# Files of the system but for what dpkg and others keep of packages and users. Above a large one, those of the layer LAYER, which
# has every file that was written since; it has folders of those below, too.
files() {
    local kinds=(-true)
    [[ -z ${LAYER:-} ]] || kinds=('(' '!' -type d '!' -type c -o -name '*tickstream*' ')')
    (cd "${LAYER:-/}" && find ./etc ./usr ./var ./opt ./srv -xdev '(' -path './var/lib/dpkg' -o -path ./var/log -o -path ./var/cache \
        -o -path ./var/tmp -o -path './var/lib/systemd' -o -path './usr/lib/sysimage' ')' -prune -o "${kinds[@]}" -print 2> /dev/null; true) |
        sed -E 's/^\.//; /^\/etc\/((passwd|group|shadow|gshadow|subuid|subgid)-?|\.pwd\.lock|ld\.so\.cache)$/d' | sort
}

# ---- Starting and stopping ----------------------------------------------------------------------------------

value() { sed -n "s/^$1=//p" /usr/lib/systemd/system/tickstream.service; }
server() {
    local process
    for process in /proc/[0-9]*; do
        # Also that of a package that was replaced.
        if [[ $(readlink "$process/exe") == /usr/bin/tickstream* && $(tr '\0' ' ' < "$process/cmdline") == *" serve "* ]]; then
            echo "${process#/proc/}"
        fi
    done 2> /dev/null
}
start() {
    if has_systemd; then systemctl start tickstream; return; fi
    local user state run credentials=/run/credentials/tickstream.service
    user=$(value User) state=/var/lib/$(value StateDirectory) run=/run/$(value RuntimeDirectory)
    install -d -o "$user" -g "$user" -m "$(value StateDirectoryMode)" "$state" && install -d -o "$user" -g "$user" "$run" &&
        install -d -o "$user" -m 0700 "$credentials" &&
        install -o "$user" -m 0400 "$(value LoadCredential | cut -d: -f2)" "$credentials/$(value LoadCredential | cut -d: -f1)" || return
    local command variable
    command=$(value ExecStart) variable=$(value Environment)
    # shellcheck disable=SC2086 # words
    (umask "$(value UMask)" && cd / && exec setpriv --reuid "$user" --regid "$user" --init-groups --no-new-privs --bounding-set=-all \
        --inh-caps=-all env -i "${variable//%d/$credentials}" $command > /tmp/log 2>&1 < /dev/null) &
    local tenth
    for ((tenth = 0; tenth < 300; tenth++)); do
        ! grep -q '"serving"' /tmp/log || return 0
        sleep 0.1
    done
    cat /tmp/log
    return 1
}
stop() {
    if has_systemd; then systemctl stop tickstream; return; fi
    local tenth
    # shellcheck disable=SC2046 # words
    kill $(server) && for ((tenth = 0; tenth < 600; tenth++)); do [[ -n $(server) ]] || return 0; sleep 0.1; done
    return 1
}

# ---- The life of a package ----------------------------------------------------------------------------------

files > /tmp/before
check "dpkg -i installs it" 'dpkg -i "$OLD" && dpkg -s tickstream | grep -q "^Status: install ok installed"'
check "command, manual pages, completions, units, licences and examples are there" \
    'tickstream --version && zcat /usr/share/man/man1/tickstream-serve.1.gz | grep -q tls && zcat /usr/share/man/man1/tickstream.1.gz > /dev/null &&
     bash -n /usr/share/bash-completion/completions/tickstream && [[ -s /usr/share/zsh/vendor-completions/_tickstream ]] &&
     [[ -s /usr/share/fish/vendor_completions.d/tickstream.fish && -s /usr/share/doc/tickstream/copyright ]] &&
     [[ -s /usr/share/doc/tickstream/LICENSE-MIT && -s /usr/share/doc/tickstream/examples/tickstream.toml ]] &&
     ls /usr/lib/systemd/system/tickstream{,@,-irq@,-collect}.service /usr/lib/systemd/system/tickstream.socket'
check "programs that its units name are the package's" \
    '! grep -h "^Exec" /usr/lib/systemd/system/tickstream* | grep -o "/usr/[^ ]*bin/[^ ]*" | sort -u | xargs dpkg -S 2>&1 | grep -v "^tickstream: "'
check "the user is there, and nothing runs" 'getent passwd tickstream && [[ -z $(server) ]]'
check "a password was made that root alone can read" '[[ $(stat -c "%U %a" $PASSWORD) == "root 600" && $(wc -c < $PASSWORD) -gt 30 ]]'
echo 'journal = "/var/lib/tickstream/events"' >> "$CONFIG"
echo 'journal_segment_mib = 4' >> "$CONFIG"
cp "$PASSWORD" /tmp/password

check "the server starts as its user" 'start && [[ $(stat -c %U /proc/$(server)) == tickstream ]]'
check "a client gets ticks" 'client watch --count 1'
check "an event is published, and exported" 'event && events 1'
N=1
if has_systemd; then
    check "the collector starts, takes an event, and answers when the server has it" \
        'systemctl start tickstream-collect && collected && events 2'
    N=2
fi
PID=$(server)
if has_systemd; then
    client watch --count 12 > /tmp/ticks 2>&1 &
    WATCH=$!
    check "an upgrade hands over to the new version: the service stays active, and no restart is counted" \
        'dpkg -i "$NEW" && for i in {1..60}; do sleep 0.25; [[ $(systemctl show --property MainPID --value tickstream) != "$PID" ]] && break; done
         [[ $(systemctl show --property MainPID --value tickstream) != "$PID" && $(systemctl show --property NRestarts --value tickstream) == 0 ]] &&
         systemctl is-active tickstream && for i in {1..60}; do [[ -e /proc/$PID ]] || break; sleep 0.5; done; ! [[ -e /proc/$PID ]]'
    check "a client that was there got every tick" 'wait $WATCH; cat /tmp/ticks; grep -q "12 ticks, 0 missed" /tmp/ticks'
else
    check "an upgrade leaves the server running, and the new one starts after it" \
        'dpkg -i "$NEW" && [[ $(server) == "$PID" ]] && client watch --count 1 && stop && start'
fi
check "the upgrade left settings, password and events" \
    'dpkg -s tickstream | grep "^Version: ${NEW_VERSION:?}" && grep -q ^journal "$CONFIG" && cmp $PASSWORD /tmp/password && event && events $((N + 1))'
if has_systemd; then
    check "the upgrade restarted the collector, with the new version" \
        'for i in {1..60}; do sleep 0.25; systemctl is-active --quiet tickstream-collect && break; done; collected && events $((N + 2)) &&
         ! readlink /proc/$(systemctl show --property MainPID --value tickstream-collect)/exe | grep deleted'
    systemctl enable tickstream tickstream-collect
    check "removal stops both, forgets their links, and keeps their settings" \
        'dpkg -r tickstream && [[ -z $(server) ]] && ! systemctl is-active tickstream-collect && [[ -e $CONFIG && -e $PASSWORD ]] && ! find /etc/systemd -name "tickstream*" | grep .'
else
    check "removal keeps its settings" 'stop && dpkg -r tickstream && [[ -e $CONFIG && -e $PASSWORD ]]'
fi
KEPT=$((N + 1))
! has_systemd || KEPT=$((N + 2))
check "purge leaves the events, and the user that they belong to; nothing else" \
    'dpkg -P tickstream && files > /tmp/after && comm -13 /tmp/before /tmp/after | tee /tmp/left && ! grep -v "^/var/lib/tickstream" /tmp/left &&
     [[ $(stat -c %U /var/lib/tickstream) == tickstream ]] && ! comm -23 /tmp/before /tmp/after | grep .'
check "installed again, it finds its events" 'dpkg -i "$NEW" && events "$KEPT"'
rm -rf /var/lib/tickstream
check "purged without events, it leaves nothing, and no user" \
    'dpkg -P tickstream && files | comm -13 /tmp/before - | tee /tmp/left && ! grep -q . /tmp/left && ! getent passwd tickstream && ! getent group tickstream'
if has_systemd; then
    journalctl -b -u tickstream -u tickstream-collect --no-pager -o cat > "${3:-/dev/null}"
fi
echo END
