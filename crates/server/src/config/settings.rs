//! The server's settings: one entry each, from which flags, variables, file, help and the typed [`Settings`] come.
//!
//! A new setting is an entry here, and its use: `config.settings.key`, for the engine in `engine_config.rs`, of event
//! collection in `events.rs` and the engine's `ingest/config.rs`. A reload changes those that are `live()`; the engine's
//! part of that is its `Config::reload`. A test says how to write `config/tickstream.toml` anew.

use super::readers;
use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};
use tickstream_engine::{Network, Phase, PrivacyRule, ProxyProtocol};
use tickstream_service::credentials::CredentialSettings;
use tickstream_service::settings;
use tickstream_service::settings::{Table, kind};
use tickstream_service::standard::Standard;

/// Every setting of the server.
pub static TABLE: Table = Table {
    command: "tickstream serve",
    groups: &[CredentialSettings::SECTIONS, Settings::SECTIONS, Standard::SECTIONS],
    former_variables: super::former::VARIABLES,
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn days(days: u64) -> Duration {
    secs(days * 86_400)
}

const HOUR: Duration = secs(3_600);
const NINE_HOURS: Duration = secs(9 * 3_600);
const DAY: Duration = days(1);
const CENTURY: Duration = days(36_500);
const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

const PHASES: &[(&str, Phase)] = &[("aligned", Phase::Aligned), ("spread", Phase::Spread)];
const PROXY_PROTOCOLS: &[(&str, ProxyProtocol)] = &[
    ("off", ProxyProtocol::Off),
    ("optional", ProxyProtocol::Optional),
    ("required", ProxyProtocol::Required),
];
const CLIENT_AUTHS: &[(&str, Option<ClientAuth>)] =
    &[("required", Some(ClientAuth::Required)), ("optional", Some(ClientAuth::Optional))];
const USER_NAMES: &[(&str, UserName)] = &[("auth", UserName::Auth), ("certificate", UserName::Certificate)];
const PEERS: &[(&str, PeerPrivacy)] = &[("store", PeerPrivacy::Store), ("truncate", PeerPrivacy::Truncate)];

const SHARED: &[(&str, bool)] = &[("no", false), ("yes", true)];
const UNLOADED: &[(&str, UnloadedEvents)] =
    &[("keep", UnloadedEvents::Keep), ("remove", UnloadedEvents::Remove)];

/// Demand for a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client without one is refused.
    Required,
    /// A client may have none.
    Optional,
}

/// Source of a client's user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserName {
    /// AUTH.
    Auth,
    /// The subject of the client's certificate.
    Certificate,
}

/// Part of a client's address that records hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerPrivacy {
    /// All of it.
    Store,
    /// Its network.
    Truncate,
}

/// Fate of events that are too old, while a consumer of their journal hasn't loaded them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnloadedEvents {
    /// They stay.
    Keep,
    /// They are removed.
    Remove,
}

settings! {
    /// Settings of the server, each valid by itself. [`Config`](super::Config) holds them once the rules between them hold,
    /// too.
    pub struct Settings, handles in setting;

    section "Address and CPUs" {
        /// Address to accept connections on; an IPv6 address in brackets. Port 0: one that is free. With tls_cert and
        /// without listen_tls, it speaks TLS.
        listen: SocketAddr = kind::address().default("0.0.0.0:7400");
        /// A second address, for TLS; listen then is for plain TCP. Needs tls_cert.
        listen_tls: Option<SocketAddr> = kind::optional_address().or_none("none");
        /// Lets other processes listen on the same addresses and write to the same journal directory: one process for
        /// each NUMA node. Each of them needs it. An upgrade works without.
        listen_shared: bool = kind::choice(SHARED).value_name("yes|no").default("no");
        /// Number of shards. Where there are more than CPUs, they share them, round robin.
        shards: Option<NonZeroU32> = kind::positive_or_none(1, 8_192, "").or_none("one per chosen CPU");
        /// CPUs to run shards on. Excludes numa_node.
        cpus: Option<Vec<usize>> =
            kind::text_or_number(|| "CPU numbers and ranges, such as 0-3,8".to_owned(), readers::read_cpus)
                .value_name("LIST")
                .or_none("all that the process may run on");
        /// NUMA node whose CPUs run the shards. Excludes cpus.
        numa_node: Option<u32> = readers::optional_integer(0, 1_023).or_none("any");
    }

    section "Users" {
        /// TOML file with users beside stream_user, or instead of it: each with its secret, roles and limits. Read again
        /// on a reload; a user that is taken out loses its connections. `tickstream user-secret NAME` makes an entry.
        users_file: Option<PathBuf> = kind::path().or_none("none").live();
    }

    section "TLS" {
        /// File with the server's certificate and its chain, PEM. Read again on SIGHUP and when it changes.
        tls_cert: Option<PathBuf> = kind::path().or_none("no TLS").live();
        /// File with the certificate's private key, PEM.
        tls_key: Option<PathBuf> = kind::path().or_none("no TLS").live();
        /// File with the authorities that clients' certificates are checked against, PEM. Turns mutual TLS on.
        tls_client_ca: Option<PathBuf> = kind::path().or_none("none").live();
        /// Demand for a client's certificate. Needs tls_client_ca.
        tls_client_auth: Option<ClientAuth> =
            kind::choice(CLIENT_AUTHS).value_name("WHEN").or_none("required, where tls_client_ca is set").live();
        /// Source of the user's name: AUTH, or the subject of the client's certificate, beside which
        /// AUTH needs the password alone.
        tls_user: UserName = kind::choice(USER_NAMES).value_name("WHERE").default("auth").live();
        /// A client whose TLS handshake takes longer is closed.
        handshake_timeout: Duration = kind::duration(ms(50), secs(300)).default("5s").live();
        /// TLS handshakes that one shard has underway; others wait.
        handshakes_max: NonZeroU32 = kind::positive(1, 1_000_000, "").default("4096");
    }

    section "PROXY protocol" {
        /// PROXY header (version 1 or 2) at the begin of connections from proxy_trusted, which names the client.
        /// required: connections from elsewhere are closed.
        proxy_protocol: ProxyProtocol = kind::choice(PROXY_PROTOCOLS).value_name("WHEN").default("off").live();
        /// Networks whose PROXY headers are believed: those of your load balancers, and no others.
        proxy_trusted: Vec<Network> = readers::networks().or_none_of_them("none").live();
    }

    section "Protocol" {
        /// Interval at which clients send a heartbeat.
        heartbeat_interval: Duration =
            kind::duration(ms(50), HOUR).variable("HEARTBEAT_INTERVAL").default("15s");
        /// A client without heartbeat for this long is closed. Longer than heartbeat_interval.
        heartbeat_timeout: Duration =
            kind::duration(ms(100), DAY).variable("HEARTBEAT_TIMEOUT").default("20s");
        /// A client that hasn't authenticated after this long is closed.
        auth_timeout: Duration = kind::duration(ms(50), secs(300)).default("5s").live();
        /// A client that leaves a byte waiting for longer is closed as a slow consumer.
        write_deadline_ms: Duration =
            kind::duration(ms(10), secs(600)).bare(ms(1)).variable("WRITE_DEADLINE_MS").default("5000");
        /// Largest payload of a frame, in either direction.
        max_msg_size: NonZeroU32 = kind::size(KIB, 16 * MIB).variable("MAX_MSG_SIZE").default("64KiB");
        /// Time for clients to leave after the server was told to stop; each is told so, which takes half a second at least.
        drain_seconds: Duration = kind::duration(ms(0), HOUR).bare(secs(1)).default("5");
    }

    section "Streams" {
        /// Ticks in each second of the stream SECOND.
        ticks_per_second: NonZeroU32 = kind::positive(1, 10_000_000, "").default("1");
        /// Ticks in each minute of the stream MINUTE.
        ticks_per_minute: NonZeroU32 = kind::positive(1, 600_000_000, "").default("1");
        /// Phase of ticks: due for all at once, or spread over the interval, client by client.
        phase: Phase = kind::choice(PHASES).value_name("PHASE").default("aligned");
        /// Longest that a tick waits for others to share its frame; 0: no batching.
        batch_window_ms: Duration =
            kind::duration(ms(0), secs(1)).bare(ms(1)).variable("BATCH_WINDOW_MS").default("5");
        /// Longest time back to which a client may resume; 0s: no replay.
        replay_window: Duration = kind::duration(ms(0), DAY).default("1h");
        /// Most ticks that one resume replays.
        replay_ticks_max: u32 = kind::integer(0, 100_000_000, "").default("100000");
    }

    section "Event collection" {
        /// Directory in which each shard keeps a journal of the events that clients publish. What is acknowledged is on
        /// stable storage.
        journal: Option<PathBuf> = kind::path().value_name("DIRECTORY").or_none("no events are taken");
        /// Length of a journal's files. Each is written full of zeros before it is used; whole ones are removed.
        journal_segment_mib: u32 = kind::integer(4, 4_096, "MiB").value_name("MIB").default("128");
        /// All journals together: beyond, the oldest events are removed. Without a limit, a full disk refuses new ones.
        journal_max_mib: Option<NonZeroU32> =
            kind::positive_or_none(1, u32::MAX, "MiB").value_name("MIB").or_none("no limit");
        /// Time that events are kept, at least; they go with the file that they are in.
        journal_max_days: Option<Duration> =
            kind::optional_duration(DAY, CENTURY).bare(DAY).value_name("DAYS").or_none("no limit");
        /// Events that are older than journal_max_days, while a consumer of the journal hasn't loaded them.
        /// journal_max_mib never removes them: new ones are refused instead.
        journal_unloaded: UnloadedEvents = kind::choice(UNLOADED).value_name("HOW").default("keep");
        /// Age at which a journal begins a new file, so that old ones can be loaded and removed.
        journal_segment_age: Duration = kind::duration(secs(60), DAY).default("1h");
        /// Name of this server in the records of its events.
        server_id: Option<String> = readers::name().or_none("the host's name");
        /// Batches that a client may have on the way without an acknowledgement.
        publish_credits: NonZeroU32 = kind::positive(1, 1_024, "").default("8");
        /// Largest payload of a PUBLISH; max_msg_size is for all others.
        publish_size_max: NonZeroU32 = kind::size(KIB, 16 * MIB).default("512KiB");
        /// Events that one client may publish a second, with two seconds' worth at once; 0: no limit.
        publish_events_per_second_max: Option<NonZeroU32> =
            kind::positive_or_none(0, 100_000_000, "").default("0");
        /// An event that happened longer ago is rejected.
        event_age_max_days: Duration =
            kind::duration(DAY, CENTURY).bare(DAY).value_name("DAYS").default("30");
        /// An event whose time is further ahead of the server's clock is rejected.
        event_ahead_max: Duration = kind::duration(ms(0), DAY).default("10m");
        /// Event ids that a shard remembers, so that an event which comes again isn't stored twice; 32 bytes each.
        event_ids_max: u32 = kind::integer(1_024, 268_435_456, "").default("524288");
        /// Fields of events that are dropped, masked, hashed or truncated before anything is written.
        privacy_rules: Vec<PrivacyRule> = readers::privacy_rules().or_none_of_them("none");
        /// File with the key that values are hashed with: 64 hexadecimal digits.
        privacy_key_file: Option<PathBuf> = kind::path().or_none("none");
        /// Client addresses in records: whole, or their network alone (/24 of IPv4, /48 of IPv6).
        privacy_peer: PeerPrivacy = kind::choice(PEERS).value_name("HOW").default("store");
    }

    section "Limits" {
        /// Connections of the whole process, shared out among its shards.
        max_connections: Option<NonZeroU32> =
            kind::positive_or_none(1, 100_000_000, "").or_none("as many as the descriptor limit allows");
        /// Connections of one IPv4 address or IPv6 /64 on each shard.
        max_connections_per_ip: Option<NonZeroU32> =
            kind::positive_or_none(1, 100_000_000, "").or_none("no limit").live();
        /// Connections of one shard that haven't authenticated yet.
        unauthenticated_max: NonZeroU32 = kind::positive(1, 100_000_000, "").default("16384").live();
        /// The same of one IPv4 address or IPv6 /64.
        unauthenticated_per_ip_max: Option<NonZeroU32> =
            kind::positive_or_none(1, 100_000_000, "").or_none("no limit").live();
        /// New connections of one shard in a second; twice as many may come at once. 0: no limit.
        connections_per_second_max: Option<NonZeroU32> =
            kind::positive_or_none(0, 10_000_000, "").default("10000").live();
        /// Failed AUTHs of one IPv4 address or IPv6 /64 in a minute on each shard; after them, its AUTHs are refused for
        /// a while. 0: no limit.
        auth_failures_per_minute_max: u32 = kind::integer(0, 60_000, "").default("10").live();
        /// Memory of the process from which on new connections are refused.
        memory_max_mib: Option<NonZeroU32> = kind::positive_or_none(1, u32::MAX, "MiB")
            .value_name("MIB")
            .or_none("90 % of what the machine or the control group has")
            .live();
        /// New connections are refused for a second after a tick was this late; 0s: never.
        overload_lag: Option<Duration> = kind::duration_or_off(ms(100), HOUR, ms(1)).default("3s").live();
        /// Frames that one client may send in a second.
        frames_per_second_max: NonZeroU32 = kind::positive(1, 1_000_000, "").default("100").live();
    }

    section "Sockets" {
        /// Connections that may wait to be accepted, per shard; the kernel caps it at net.core.somaxconn.
        listen_backlog: NonZeroU32 = kind::positive(1, 65_535, "").default("4096");
        /// Kernel memory for unsent and unacknowledged bytes of one connection (SO_SNDBUF).
        send_buffer: NonZeroU32 = kind::size(4 * KIB, 16 * MIB).default("64KiB");
        /// Unsent bytes from which on a socket takes no more (TCP_NOTSENT_LOWAT).
        unsent_max: NonZeroU32 = kind::size(KIB, 16 * MIB).default("16KiB");
        // The kernel takes whole seconds, up to 32,767 (MAX_TCP_KEEPIDLE).
        /// Silence before the kernel probes whether the peer is there (SO_KEEPALIVE, TCP_KEEPIDLE).
        tcp_keepalive: Option<Duration> =
            kind::duration_or_off(secs(1), NINE_HOURS, secs(1)).default("30s");
        /// Longest that sent bytes stay unacknowledged before the kernel gives up (TCP_USER_TIMEOUT).
        tcp_user_timeout: Option<Duration> = kind::duration_or_off(secs(1), HOUR, ms(1)).default("20s");
    }

    section "Traced connections" {
        /// One in so many connections is traced, when it ends, where there is an otlp_endpoint.
        otlp_sample_one_in: NonZeroU32 = kind::positive(1, 1_000_000_000, "").default("100");
        /// A pass of a shard's loop that takes so long is traced; 0s: none.
        otlp_slow_pass: Option<Duration> = kind::duration_or_off(ms(1), HOUR, ms(1)).default("50ms");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use tickstream_service::settings::{File, Flags, Values, documented_defaults};

    /// Variables that have no prefix: they are given from outside.
    const WITHOUT_PREFIX: [&str; 7] = [
        "STREAM_USER",
        "STREAM_PASS",
        "HEARTBEAT_INTERVAL",
        "HEARTBEAT_TIMEOUT",
        "BATCH_WINDOW_MS",
        "MAX_MSG_SIZE",
        "WRITE_DEADLINE_MS",
    ];

    #[test]
    fn keys_and_variables_are_unique_and_well_formed() {
        let (mut keys, mut variables) = (HashSet::new(), HashSet::new());
        for setting in TABLE.settings() {
            let about = setting.about();
            assert!(keys.insert(about.key), "{}", about.key);
            let snake = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(about.key.chars().all(snake), "{}", about.key);
            let variable = about.variable();
            let upper = about.key.to_ascii_uppercase();
            let is_by_rule = variable == format!("TICKSTREAM_{upper}");
            assert!(is_by_rule || variable == upper && WITHOUT_PREFIX.contains(&&*upper), "{variable}");
            assert!(variables.insert(variable), "{}", about.key);
            assert!(about.help.ends_with('.'), "{}", about.key);
        }
        assert!(WITHOUT_PREFIX.iter().all(|variable| variables.contains(*variable)));
    }

    #[test]
    fn an_empty_default_says_what_it_means() {
        for setting in TABLE.settings() {
            let about = setting.about();
            assert!(about.default != Some("") || about.empty.is_some(), "{}", about.key);
        }
    }

    #[test]
    fn defaults_are_accepted() {
        for setting in TABLE.settings() {
            if let Some(default) = setting.about().default {
                assert!(setting.check(default).is_ok(), "{}", setting.about().key);
            }
        }
    }

    fn documented() -> String {
        documented_defaults(
            &TABLE,
            "# tickstream's settings with their defaults. Start the server with --config PATH or TICKSTREAM_CONFIG=PATH to\n\
             # use a file like this one. Flags take precedence over environment variables, those over the file.\n\
             # Made from the table of settings in crates/server/src/config/settings.rs; a test compares the two.\n",
        )
    }

    /// To write the file anew: `TICKSTREAM_BLESS=1 cargo test -p tickstream-server the_documented_file`.
    #[test]
    fn the_documented_file_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/tickstream.toml");
        if std::env::var_os("TICKSTREAM_BLESS").is_some() {
            std::fs::write(path, documented()).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, documented(), "see this test's comment");
    }

    #[test]
    fn the_documented_file_equals_the_defaults() {
        let file = File::parse(&TABLE, "config/tickstream.toml".as_ref(), &documented()).unwrap();
        let from_file = Values::merge(&TABLE, &Flags::new(), &|_| None, Some(&file)).unwrap();
        let defaults = Values::merge(&TABLE, &Flags::new(), &|_| None, None).unwrap();
        assert_eq!(Settings::read(&from_file).unwrap(), Settings::read(&defaults).unwrap());
    }
}
