//! Settings of `tickstream collect`.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use tickstream_service::settings::{AnySetting, ConfigError, Setting, ValueError, Values, address, kind};

use crate::{
    CollectorConfig,
    collector::Addresses,
    http::{ConnectionLimits, HttpConfig, RequestLimits},
    keys::Keys,
    networks::Network,
    source_config::SourceConfig,
    stream::StreamConfig,
    tls::{ListenerTls, TlsFiles},
    upstream::UpstreamConfig,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

tickstream_service::settings! {
    /// Settings of a collector, each valid by itself.
    pub struct CollectSettings, handles in setting;

    section "Servers" {
        /// Servers that store the events, each a host and a port. Connections are spread over them.
        to: Vec<String> = kind::text(|| HOSTS.to_owned(), read_hosts).value_name("HOSTS").default("localhost:7400");
        /// Connections to the servers.
        connections: u32 = kind::integer(1, 256, "").default("4");
        /// Longest wait for a server's answer; then the sender is told to send again.
        answer_timeout: Duration = kind::duration(SECOND, Duration::from_secs(60)).default("8s");
    }

    section "Listeners" {
        /// The collector's own API, Segment's, PostHog's, Prometheus' remote write, Elasticsearch's _bulk.
        http: Vec<SocketAddr> = addresses();
        /// OTLP over gRPC.
        otlp_grpc: Vec<SocketAddr> = addresses();
        /// OTLP over HTTP.
        otlp_http: Vec<SocketAddr> = addresses();
        /// Syslog over TCP, RFC 5424 and 3164.
        syslog_tcp: Vec<SocketAddr> = addresses();
        /// Syslog over UDP.
        syslog_udp: Vec<SocketAddr> = addresses();
        /// Syslog over RELP.
        relp: Vec<SocketAddr> = addresses();
        /// Fluent Forward.
        fluent: Vec<SocketAddr> = addresses();
        /// StatsD and DogStatsD over UDP.
        statsd: Vec<SocketAddr> = addresses();
    }

    section "Senders" {
        /// TOML file with the keys of senders: [key.NAME] secret = "…". Without it, whoever reaches a listener may send
        /// everything.
        keys: Option<PathBuf> = kind::path().value_name("FILE").or_none("none: everyone may send").live();
        /// PEM file with the certificate of the listeners over TCP, which then speak TLS 1.3 alone.
        listen_cert: Option<PathBuf> = kind::path().value_name("FILE").or_none("none: nothing is encrypted");
        /// PEM file with the private key of listen_cert, unencrypted.
        listen_key: Option<PathBuf> = kind::path().value_name("FILE").or_none("none");
        /// PEM file with the authorities whose certificates senders must show.
        listen_client_ca: Option<PathBuf> =
            kind::path().value_name("FILE").or_none("none: no certificate is asked for");
        /// Networks of proxies whose X-Forwarded-For is believed: those of your load balancers, and no others.
        proxy_trusted: Vec<Network> = kind::text(|| NETWORKS.to_owned(), read_networks)
            .value_name("NETWORKS")
            .or_none_of_them("none: a client's address is that of its connection");
        /// Name of the key under which syslog, RELP, Fluent and StatsD send, which have no place for a secret.
        stream_key: String = kind::text(|| "a name in the file of keys".to_owned(), |name| Ok(name.to_owned()))
            .value_name("NAME")
            .default("stream");
        /// Proof that senders over Fluent Forward have to give: none, or that they know the secret of a key, which is their
        /// shared_key. Their events then come under that key.
        fluent_auth: bool = kind::choice(FLUENT_AUTH).value_name("none|shared-key").default("none");
    }

    section "State" {
        /// Directory where places in followed files are kept over restarts.
        state_dir: Option<PathBuf> = kind::path().value_name("DIR").or_none("none: no files are followed");
        /// Directory of a disk queue: success then means that events are synced there, and the servers get them when they
        /// can. For an agent beside an application, on a disk that outlives the process.
        queue_dir: Option<PathBuf> =
            kind::path().value_name("DIR").or_none("none: success means that a server has stored it");
        /// Most bytes of the disk queue; beyond, senders are told to send again, and files aren't read on.
        queue_max: NonZeroU32 = kind::size(8 << 20, u32::MAX).default("1024MiB");
    }

    section "Bounds" {
        /// Memory that requests may hold together; beyond, senders are told to send again.
        memory: NonZeroU32 = kind::size(1 << 20, u32::MAX).default("256MiB");
        /// Most bytes of a request's body as it comes.
        body_max: NonZeroU32 = kind::size(1 << 10, 64 << 20).default("4MiB");
        /// Most bytes of a request's body, decompressed.
        content_max: NonZeroU32 = kind::size(1 << 10, 256 << 20).default("16MiB");
        /// Most events of a request.
        events_max: u32 = kind::integer(1, 1_000_000, "events").default("50000");
        /// Time for a request's body to come.
        body_timeout: Duration = kind::duration(SECOND, HOUR).default("15s");
        /// Time for a request's head to come, and for which an HTTP connection may be idle.
        idle_timeout: Duration = kind::duration(SECOND, HOUR).default("60s");
        /// Most connections of each listener.
        connections_max: u32 = kind::integer(1, 1_000_000, "connections").default("20000");
        /// Time for what was taken to come to its answer when the collector ends.
        drain_timeout: Duration = kind::duration(SECOND, HOUR).default("30s");
        /// Threads that work.
        workers: Option<NonZeroU32> = kind::positive_or_none(0, 1024, "threads").default("0");
    }
}

const FLUENT_AUTH: &[(&str, bool)] = &[("none", false), ("shared-key", true)];

/// A setting with addresses of a listener.
const fn addresses() -> Setting<Vec<SocketAddr>> {
    kind::text(|| ADDRESSES.to_owned(), read_addresses)
        .value_name("ADDRESSES")
        .or_none_of_them("none: it isn't listened for")
}

const ADDRESSES: &str = "IP addresses with ports, separated by commas";
const NETWORKS: &str = "networks such as 10.0.0.0/8, separated by commas";
const HOSTS: &str = "hosts with ports, separated by commas";

fn read_addresses(text: &str) -> Result<Vec<SocketAddr>, ValueError> {
    text.split(',').map(|part| Ok(address(part.trim())?)).collect()
}

fn read_networks(text: &str) -> Result<Vec<Network>, ValueError> {
    text.split(',').map(|part| part.trim().parse().map_err(ValueError::program)).collect()
}

fn read_hosts(text: &str) -> Result<Vec<String>, ValueError> {
    let host = |part: &str| {
        let is_host =
            part.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if is_host { Ok(part.to_owned()) } else { Err(ValueError::program(NoHost(part.to_owned()))) }
    };
    text.split(',').map(str::trim).map(host).collect()
}

#[derive(Debug, thiserror::Error)]
#[error("{0} is no host with a port")]
struct NoHost(String);

impl CollectSettings {
    /// Files of the listeners' TLS, where it is on.
    ///
    /// # Errors
    /// If one of the two that belong together is missing.
    pub fn tls_files(&self, values: &Values) -> Result<Option<TlsFiles>, ConfigError> {
        let needs = |setting: &'static dyn AnySetting, other: &'static str| {
            Err(values.get(setting).invalid(ValueError::Needs { other }))
        };
        match (&self.listen_cert, &self.listen_key, &self.listen_client_ca) {
            (Some(certificate), Some(key), client_ca) => Ok(Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: client_ca.clone(),
            })),
            (None, None, None) => Ok(None),
            (Some(_), None, _) => needs(&setting::listen_cert, "listen_key"),
            (None, Some(_), _) => needs(&setting::listen_key, "listen_cert"),
            (None, None, Some(_)) => needs(&setting::listen_client_ca, "listen_cert"),
        }
    }

    /// Checks that there is a file of keys where senders have to prove that they know one.
    ///
    /// # Errors
    /// If there isn't.
    pub fn check_keys(&self, values: &Values) -> Result<(), ConfigError> {
        match self.fluent_auth && self.keys.is_none() {
            true => Err(values.get(&setting::fluent_auth).invalid(ValueError::Needs { other: "keys" })),
            false => Ok(()),
        }
    }

    /// Options of the collector.
    pub fn config(
        &self,
        keys: Option<Keys>,
        tls: Option<ListenerTls>,
        sources: SourceConfig,
    ) -> CollectorConfig {
        let memory_bytes = self.memory.get() as usize;
        CollectorConfig {
            addresses: Addresses {
                http: self.http.clone(),
                otlp_grpc: self.otlp_grpc.clone(),
                otlp_http: self.otlp_http.clone(),
                syslog_tcp: self.syslog_tcp.clone(),
                syslog_udp: self.syslog_udp.clone(),
                relp: self.relp.clone(),
                fluent: self.fluent.clone(),
                statsd: self.statsd.clone(),
            },
            keys,
            stream_key: self.stream_key.clone(),
            fluent_auth: self.fluent_auth,
            memory_bytes,
            upstream: UpstreamConfig {
                connections: self.connections as usize,
                queue_bytes: memory_bytes / 2,
                answer_timeout: self.answer_timeout,
            },
            http: HttpConfig {
                connections: self.connections_max as usize,
                connection: ConnectionLimits {
                    idle_timeout: self.idle_timeout,
                    ..HttpConfig::default().connection
                },
                request: RequestLimits {
                    body_bytes: self.body_max.get() as usize,
                    content_bytes: self.content_max.get() as usize,
                    events: self.events_max,
                    body_timeout: self.body_timeout,
                },
                trusted: self.proxy_trusted.clone().into(),
                tls: tls.as_ref().map(|tls| tls.http.clone()),
            },
            stream: StreamConfig {
                connections: self.connections_max as usize,
                tls: tls.map(|tls| tls.stream),
                ..StreamConfig::default()
            },
            sources,
            state_dir: self.state_dir.clone(),
            spool: self.queue_dir.clone().map(|dir| (dir, self.queue_max.get().into())),
        }
    }
}
