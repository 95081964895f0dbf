//! The table of settings. Flags, environment, file, `--help`, `--print-config` and `config/tickstream.toml` all
//! come from it.

use super::kind::Kind;
use std::time::Duration;

/// Settings that belong together, under one heading.
#[derive(Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key in the TOML file; the flag is the same in kebab-case.
    pub key: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// What the value may be.
    pub kind: Kind,
    /// What stands for the value in the help.
    pub value_name: &'static str,
    /// The default, as one would write it; `None` where there is none. An empty one is written "", and means
    /// what `empty` says.
    pub default: Option<&'static str>,
    /// What an empty value means; `None` where a value is needed.
    pub empty: Option<&'static str>,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// Whether a running server takes another value when it reloads.
    pub live: bool,
    /// What it does, in a sentence or two.
    pub help: &'static str,
}

impl Setting {
    const fn new(key: &'static str, env: &'static str, kind: Kind, value_name: &'static str) -> Self {
        Self { key, env, kind, value_name, default: None, empty: None, secret: false, live: false, help: "" }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    const fn empty(self, meaning: &'static str) -> Self {
        Self { empty: Some(meaning), ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    const fn live(self) -> Self {
        Self { live: true, ..self }
    }

    const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The default for people: the value, or what having none means.
    pub fn default_text(&self) -> &'static str {
        match self.default {
            Some("") | None => self.empty.unwrap_or("none"),
            Some(default) => default,
        }
    }
}

/// Every setting, in order.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// The settings of a client: user, password and TLS. The latter are no settings of the server, nor keys of its file.
pub fn client_settings() -> impl Iterator<Item = &'static Setting> {
    [&CREDENTIALS, &CLIENT_TLS].into_iter().flat_map(|section| section.settings)
}

/// The setting with this key.
pub fn find(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == key)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const HOUR: Duration = secs(3_600);
const NINE_HOURS: Duration = secs(9 * 3_600);
const DAY: Duration = secs(86_400);
const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

/// The table.
pub const SECTIONS: &[Section] =
    &[CREDENTIALS, PLACEMENT, TLS, PROXY, PROTOCOL, STREAMS, EVENTS, LIMITS, SOCKETS, ADMIN, TRACES, LOGS];

const CREDENTIALS: Section = Section {
    title: "Credentials",
    settings: &[
        Setting::new("stream_user", "STREAM_USER", Kind::Credential, "NAME")
            .live()
            .help("User name that clients authenticate with. Required."),
        Setting::new("stream_pass", "STREAM_PASS", Kind::Credential, "PASSWORD").live().secret().help(
            "Password. Required, here or in stream_pass_file. Flags are visible to other users: prefer the \
             environment or the file.",
        ),
        Setting::new("stream_pass_file", "STREAM_PASS_FILE", Kind::Path, "PATH")
            .live()
            .empty("none")
            .help("File with the password; one newline at its end is removed. Excludes stream_pass."),
    ],
};

/// What a client needs for TLS.
pub const CLIENT_TLS: Section = Section {
    title: "TLS",
    settings: &[
        Setting::new("tls", "STREAM_TLS", Kind::Choice(&["on", "off"]), "SWITCH").default("off").help(
            "Speak TLS 1.3, with servers whose certificate this system's authorities, or those of tls_ca, have signed. \
             Without it the password crosses the network in the clear.",
        ),
        Setting::new("tls_ca", "STREAM_TLS_CA", Kind::Path, "FILE")
            .empty("the system's")
            .help("PEM file with the certificates of the authorities to trust, and no others. Implies tls."),
        Setting::new("tls_client_cert", "STREAM_TLS_CLIENT_CERT", Kind::Path, "FILE")
            .empty("none")
            .help("PEM file with a certificate to show to servers that ask for one. Implies tls."),
        Setting::new("tls_client_key", "STREAM_TLS_CLIENT_KEY", Kind::Path, "FILE")
            .empty("none")
            .help("PEM file with the private key of tls_client_cert, unencrypted."),
        Setting::new("tls_server_name", "STREAM_TLS_SERVER_NAME", Kind::ServerName, "NAME")
            .empty("the host of --addr")
            .help("Name that the servers' certificates must have. Implies tls."),
    ],
};

const PLACEMENT: Section = Section {
    title: "Address and CPUs",
    settings: &[
        Setting::new("listen", "STREAM_LISTEN", Kind::Address, "IP:PORT").default("0.0.0.0:7400").help(
            "Address to accept connections on; an IPv6 address in brackets. Port 0: one that is free. With \
                 tls_cert and without listen_tls, it speaks TLS.",
        ),
        Setting::new("listen_tls", "STREAM_LISTEN_TLS", Kind::Address, "IP:PORT")
            .default("")
            .empty("none")
            .help("A second address, for TLS; listen then is for plain TCP. Needs tls_cert."),
        Setting::new("shards", "STREAM_SHARDS", Kind::integer(1, 8_192, ""), "N")
            .default("")
            .empty("one per chosen CPU")
            .help("Number of shards. Where there are more than CPUs, they share them, round robin."),
        Setting::new("cpus", "STREAM_CPUS", Kind::Cpus, "LIST")
            .default("")
            .empty("all that the process may run on")
            .help("CPUs to run shards on. Excludes numa_node."),
        Setting::new("numa_node", "STREAM_NUMA_NODE", Kind::integer(0, 1_023, ""), "N")
            .default("")
            .empty("any")
            .help("NUMA node whose CPUs run the shards. Excludes cpus."),
    ],
};

const TLS: Section = Section {
    title: "TLS",
    settings: &[
        Setting::new("tls_cert", "TLS_CERT", Kind::Path, "PATH").live().default("").empty("no TLS").help(
            "File with the server's certificate and its chain, PEM. Read again on SIGHUP and when it changes.",
        ),
        Setting::new("tls_key", "TLS_KEY", Kind::Path, "PATH").live()
            .default("")
            .empty("no TLS")
            .help("File with the certificate's private key, PEM."),
        Setting::new("tls_client_ca", "TLS_CLIENT_CA", Kind::Path, "PATH").live().default("").empty("none").help(
            "File with the authorities that clients' certificates are checked against, PEM. Turns mutual TLS on.",
        ),
        Setting::new("tls_client_auth", "TLS_CLIENT_AUTH", Kind::Choice(&["required", "optional"]), "WHEN").live()
            .default("required")
            .help("Whether a client must have a certificate, where tls_client_ca is set."),
        Setting::new("tls_user", "TLS_USER", Kind::Choice(&["auth", "certificate"]), "WHERE").live()
            .default("auth")
            .help(
                "Where the user's name comes from: from AUTH, or from the subject of the client's certificate, \
                 beside which AUTH needs the password alone.",
            ),
        Setting::new("handshake_timeout", "HANDSHAKE_TIMEOUT", Kind::millis(ms(50), secs(300)), "DURATION").live()
            .default("5s")
            .help("A client whose TLS handshake takes longer is closed."),
        Setting::new("handshakes_max", "HANDSHAKES_MAX", Kind::integer(1, 1_000_000, ""), "N")
            .default("4096")
            .help("TLS handshakes that one shard has underway; others wait."),
    ],
};

const PROXY: Section = Section {
    title: "PROXY protocol",
    settings: &[
        Setting::new(
            "proxy_protocol",
            "PROXY_PROTOCOL",
            Kind::Choice(&["off", "optional", "required"]),
            "WHEN",
        ).live()
        .default("off")
        .help(
            "Whether connections from proxy_trusted begin with a PROXY header (version 1 or 2) that names the \
             client. required: connections from elsewhere are closed.",
        ),
        Setting::new("proxy_trusted", "PROXY_TRUSTED", Kind::Networks, "NETWORKS").live()
            .default("")
            .empty("none")
            .help("Networks whose PROXY headers are believed: those of your load balancers, and no others."),
    ],
};

const PROTOCOL: Section = Section {
    title: "Protocol",
    settings: &[
        Setting::new("heartbeat_interval", "HEARTBEAT_INTERVAL", Kind::millis(ms(50), HOUR), "DURATION")
            .default("15s")
            .help("How often clients are told to send a heartbeat."),
        Setting::new("heartbeat_timeout", "HEARTBEAT_TIMEOUT", Kind::millis(ms(100), DAY), "DURATION")
            .default("20s")
            .help("A client without heartbeat for this long is closed. Longer than heartbeat_interval."),
        Setting::new("auth_timeout", "AUTH_TIMEOUT", Kind::millis(ms(50), secs(300)), "DURATION")
            .live()
            .default("5s")
            .help("A client that hasn't authenticated after this long is closed."),
        Setting::new(
            "write_deadline_ms",
            "WRITE_DEADLINE_MS",
            Kind::integer(10, 600_000, "milliseconds"),
            "MS",
        )
        .default("5000")
        .help("A client that leaves a byte waiting for longer is closed as a slow consumer."),
        Setting::new("max_msg_size", "MAX_MSG_SIZE", Kind::size(KIB, 16 * MIB), "SIZE")
            .default("64KiB")
            .help("Largest payload of a frame, in either direction."),
        Setting::new("drain_seconds", "DRAIN_SECONDS", Kind::integer(0, 3_600, "seconds"), "SECONDS")
            .default("5")
            .help("How long clients have to leave after the server was told to stop."),
    ],
};

const STREAMS: Section = Section {
    title: "Streams",
    settings: &[
        Setting::new("ticks_per_second", "TICKS_PER_SECOND", Kind::integer(1, 10_000_000, ""), "N")
            .default("1")
            .help("Ticks in each second of the stream SECOND."),
        Setting::new("ticks_per_minute", "TICKS_PER_MINUTE", Kind::integer(1, 600_000_000, ""), "N")
            .default("1")
            .help("Ticks in each minute of the stream MINUTE."),
        Setting::new("phase", "STREAM_PHASE", Kind::Choice(&["aligned", "spread"]), "PHASE")
            .default("aligned")
            .help("When ticks are due: for all at once, or spread over the interval, client by client."),
        Setting::new("batch_window_ms", "BATCH_WINDOW_MS", Kind::integer(0, 1_000, "milliseconds"), "MS")
            .default("5")
            .help("Longest that a tick waits for others to share its frame; 0: no batching."),
        Setting::new("replay_window", "REPLAY_WINDOW", Kind::millis(secs(0), DAY), "DURATION")
            .default("1h")
            .help("How far back a client may resume; 0s: no replay."),
        Setting::new("replay_ticks_max", "REPLAY_TICKS_MAX", Kind::integer(0, 100_000_000, ""), "N")
            .default("100000")
            .help("Most ticks that one resume replays."),
    ],
};

const EVENTS: Section = Section {
    title: "Event collection",
    settings: &[
        Setting::new("journal", "STREAM_JOURNAL", Kind::Path, "DIRECTORY").default("").empty("no events are taken").help(
            "Directory in which each shard keeps a journal of the events that clients publish. What is acknowledged is \
             on stable storage.",
        ),
        Setting::new("journal_segment_mib", "JOURNAL_SEGMENT_MIB", Kind::integer(4, 4_096, "MiB"), "MIB")
            .default("128")
            .help("Length of a journal's files. Each is written full of zeros before it is used; whole ones are removed."),
        Setting::new("journal_max_mib", "JOURNAL_MAX_MIB", Kind::integer(1, u32::MAX, "MiB"), "MIB")
            .default("")
            .empty("no limit")
            .help("All journals together: beyond, the oldest events are removed. Without a limit, a full disk refuses new ones."),
        Setting::new("journal_max_days", "JOURNAL_MAX_DAYS", Kind::integer(1, 36_500, "days"), "DAYS")
            .default("")
            .empty("no limit")
            .help("How long events are kept, at least; they go with the file that they are in."),
        Setting::new("journal_unloaded", "JOURNAL_UNLOADED", Kind::Choice(&["keep", "remove"]), "HOW")
            .default("keep")
            .help(
                "Events that are older than journal_max_days, while a consumer of the journal hasn't loaded them. \
                 journal_max_mib never removes them: it refuses new ones.",
            ),
        Setting::new("journal_segment_age", "JOURNAL_SEGMENT_AGE", Kind::millis(secs(60), DAY), "DURATION")
            .default("1h")
            .help("Age at which a journal begins a new file, so that old ones can be loaded and removed."),
        Setting::new("server_id", "SERVER_ID", Kind::Name, "NAME")
            .default("")
            .empty("the host's name")
            .help("What this server is called in the records of its events."),
        Setting::new("publish_credits", "PUBLISH_CREDITS", Kind::integer(1, 1_024, ""), "N")
            .default("8")
            .help("Batches that a client may have on the way without an acknowledgement."),
        Setting::new("publish_size_max", "PUBLISH_SIZE_MAX", Kind::size(KIB, 16 * MIB), "SIZE")
            .default("512KiB")
            .help("Largest payload of a PUBLISH; max_msg_size is for all others."),
        Setting::new(
            "publish_events_per_second_max",
            "PUBLISH_EVENTS_PER_SECOND_MAX",
            Kind::integer(0, 100_000_000, ""),
            "N",
        )
        .default("0")
        .help("Events that one client may publish a second, with two seconds' worth at once; 0: no limit."),
        Setting::new("event_age_max_days", "EVENT_AGE_MAX_DAYS", Kind::integer(1, 36_500, "days"), "DAYS")
            .default("30")
            .help("An event that happened longer ago is rejected."),
        Setting::new("event_ahead_max", "EVENT_AHEAD_MAX", Kind::millis(secs(0), DAY), "DURATION")
            .default("10m")
            .help("An event whose time is further ahead of the server's clock is rejected."),
        Setting::new("event_ids_max", "EVENT_IDS_MAX", Kind::integer(1_024, 268_435_456, ""), "N")
            .default("524288")
            .help("Event ids that a shard remembers, so that an event which comes again isn't stored twice; 32 bytes each."),
        Setting::new("privacy_rules", "PRIVACY_RULES", Kind::PrivacyRules, "RULES")
            .default("")
            .empty("none")
            .help("Fields of events that are dropped, masked, hashed or truncated before anything is written."),
        Setting::new("privacy_key_file", "PRIVACY_KEY_FILE", Kind::Path, "PATH")
            .default("")
            .empty("none")
            .help("File with the key that values are hashed with: 64 hexadecimal digits."),
        Setting::new("privacy_peer", "PRIVACY_PEER", Kind::Choice(&["store", "truncate"]), "HOW")
            .default("store")
            .help("Whether records hold a client's address, or its network alone: /24 of IPv4, /48 of IPv6."),
    ],
};

const LIMITS: Section = Section {
    title: "Limits",
    settings: &[
        Setting::new("max_connections", "MAX_CONNECTIONS", Kind::integer(1, 100_000_000, ""), "N")
            .default("")
            .empty("as many as the descriptor limit allows")
            .help("Connections of the whole process, shared out among its shards."),
        Setting::new(
            "max_connections_per_ip",
            "MAX_CONNECTIONS_PER_IP",
            Kind::integer(1, 100_000_000, ""),
            "N",
        ).live()
        .default("")
        .empty("no limit")
        .help("Connections of one IPv4 address or IPv6 /64 on each shard."),
        Setting::new("unauthenticated_max", "UNAUTHENTICATED_MAX", Kind::integer(1, 100_000_000, ""), "N").live()
            .default("16384")
            .help("Connections of one shard that haven't authenticated yet."),
        Setting::new(
            "unauthenticated_per_ip_max",
            "UNAUTHENTICATED_PER_IP_MAX",
            Kind::integer(1, 100_000_000, ""),
            "N",
        ).live()
        .default("")
        .empty("no limit")
        .help("The same of one IPv4 address or IPv6 /64."),
        Setting::new(
            "connections_per_second_max",
            "CONNECTIONS_PER_SECOND_MAX",
            Kind::integer(0, 10_000_000, ""),
            "N",
        ).live()
        .default("10000")
        .help("New connections of one shard in a second; twice as many may come at once. 0: no limit."),
        Setting::new(
            "auth_failures_per_minute_max",
            "AUTH_FAILURES_PER_MINUTE_MAX",
            Kind::integer(0, 60_000, ""),
            "N",
        ).live()
        .default("10")
        .help(
            "Failed AUTHs of one IPv4 address or IPv6 /64 in a minute on each shard; after them, its AUTHs are \
             refused for a while. 0: no limit.",
        ),
        Setting::new("memory_max_mib", "MEMORY_MAX_MIB", Kind::integer(1, u32::MAX, "MiB"), "MIB").live()
            .default("")
            .empty("90 % of what the machine or the control group has")
            .help("Memory of the process from which on new connections are refused."),
        Setting::new("overload_lag", "OVERLOAD_LAG", Kind::or_off(ms(100), HOUR, ms(1)), "DURATION").live()
            .default("3s")
            .help("New connections are refused for a second after a tick was this late; 0s: never."),
        Setting::new("frames_per_second_max", "FRAMES_PER_SECOND_MAX", Kind::integer(1, 1_000_000, ""), "N").live()
            .default("100")
            .help("Frames that one client may send in a second."),
    ],
};

const SOCKETS: Section = Section {
    title: "Sockets",
    settings: &[
        Setting::new(
            "listen_backlog",
            "LISTEN_BACKLOG",
            Kind::integer(1, 65_535, ""),
            "N",
        )
        .default("4096")
        .help(
            "Connections that may wait to be accepted, per shard; the kernel caps it at net.core.somaxconn.",
        ),
        Setting::new(
            "send_buffer",
            "SEND_BUFFER",
            Kind::size(4 * KIB, 16 * MIB),
            "SIZE",
        )
        .default("64KiB")
        .help("Kernel memory for unsent and unacknowledged bytes of one connection (SO_SNDBUF)."),
        Setting::new("unsent_max", "UNSENT_MAX", Kind::size(KIB, 16 * MIB), "SIZE")
            .default("16KiB")
            .help("Unsent bytes from which on a socket takes no more (TCP_NOTSENT_LOWAT)."),
        // The kernel takes whole seconds, up to 32,767 (MAX_TCP_KEEPIDLE).
        Setting::new(
            "tcp_keepalive",
            "TCP_KEEPALIVE",
            Kind::or_off(secs(1), NINE_HOURS, secs(1)),
            "DURATION",
        )
        .default("30s")
        .help("Silence before the kernel probes whether the peer is there (SO_KEEPALIVE, TCP_KEEPIDLE)."),
        Setting::new(
            "tcp_user_timeout",
            "TCP_USER_TIMEOUT",
            Kind::or_off(secs(1), HOUR, ms(1)),
            "DURATION",
        )
        .default("20s")
        .help("Longest that sent bytes stay unacknowledged before the kernel gives up (TCP_USER_TIMEOUT)."),
    ],
};

const ADMIN: Section = Section {
    title: "Admin endpoint",
    settings: &[
        Setting::new("admin", "STREAM_ADMIN", Kind::AdminAddresses, "ADDRESSES")
            .default("")
            .empty("none: there is no admin endpoint")
            .help(
                "Where metrics, health and the list of connections are served over HTTP. Whoever reaches it can read \
                 them: keep it on the loopback or on a network of your own.",
            ),
        Setting::new("admin_token_file", "STREAM_ADMIN_TOKEN_FILE", Kind::Path, "PATH")
            .live()
            .empty("none: changes are taken on a unix socket only")
            .help("File with the token that closing connections and draining need on TCP."),
    ],
};

const TRACES: Section = Section {
    title: "OpenTelemetry",
    settings: &[
        Setting::new("otlp_endpoint", "STREAM_OTLP_ENDPOINT", Kind::OtlpEndpoint, "URL")
            .default("")
            .empty("none: nothing is traced")
            .help(
                "Where a collector takes OTLP over HTTP; /v1/traces is appended. Spans name clients' addresses, and go \
                 there unencrypted: keep it on the loopback or on a network of your own.",
            ),
        Setting::new("otlp_sample_one_in", "STREAM_OTLP_SAMPLE_ONE_IN", Kind::integer(1, 1_000_000_000, ""), "N")
            .default("100")
            .help("One in so many connections is traced, when it ends."),
        Setting::new("otlp_slow_pass", "STREAM_OTLP_SLOW_PASS", Kind::or_off(ms(1), HOUR, ms(1)), "DURATION")
            .default("50ms")
            .help("A pass of a shard's loop that takes so long is traced; 0s: none."),
    ],
};

const LOGS: Section = Section {
    title: "Logs",
    settings: &[
        Setting::new("log_level", "LOG_LEVEL", Kind::LogFilter, "FILTER")
            .live()
            .default("info")
            .help("What is logged: a level, or a filter of tracing-subscriber."),
        Setting::new("log_format", "LOG_FORMAT", Kind::Choice(&["auto", "json", "human"]), "FORMAT")
            .default("auto")
            .help("Format of the log on stderr; auto: human on a terminal, else json."),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_and_variables_are_unique_and_well_formed() {
        let (mut keys, mut variables) = (HashSet::new(), HashSet::new());
        for setting in settings() {
            assert!(keys.insert(setting.key), "{}", setting.key);
            assert!(variables.insert(setting.env), "{}", setting.env);
            let snake = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(setting.key.chars().all(snake), "{}", setting.key);
            assert_eq!(setting.env.trim_start_matches("STREAM_"), setting.env_suffix(), "{}", setting.key);
            assert!(setting.help.ends_with('.'), "{}", setting.key);
        }
    }

    #[test]
    fn an_empty_default_says_what_it_means() {
        for setting in settings() {
            assert!(setting.default != Some("") || setting.empty.is_some(), "{}", setting.key);
        }
    }

    #[test]
    fn settings_are_found_by_key() {
        assert_eq!(find("listen").unwrap().env, "STREAM_LISTEN");
        assert_eq!(find("listen").unwrap().flag(), "listen");
        assert_eq!(find("max_msg_size").unwrap().flag(), "max-msg-size");
        assert!(find("Listen").is_none());
    }

    impl Setting {
        fn env_suffix(&self) -> String {
            self.key.to_ascii_uppercase().trim_start_matches("STREAM_").to_owned()
        }
    }
}
