//! Text into [`Config`]: every value parsed once, every rule that spans settings in one place.

use super::{
    AdminAddress, AdminToken, Config, ConfigError, Credentials, Events, Kind, LogFormat, Network, Otlp,
    OtlpEndpoint, Phase, ProxyProtocol, Tls, TlsClients, ValueError, parse,
    values::{Value, Values},
};
use crate::placement::{self, Machine};
use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

const PHASES: [(&str, Phase); 2] = [("aligned", Phase::Aligned), ("spread", Phase::Spread)];
const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 3] = [
    ("off", ProxyProtocol::Off),
    ("optional", ProxyProtocol::Optional),
    ("required", ProxyProtocol::Required),
];
/// Whether a client's certificate is optional.
const CLIENT_AUTHS: [(&str, bool); 2] = [("required", false), ("optional", true)];
/// Whether a client's certificate names its user.
const TLS_USERS: [(&str, bool); 2] = [("auth", false), ("certificate", true)];
const LOG_FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("human", LogFormat::Human)];

/// Parses every value, then checks the rules between them.
pub(crate) fn convert(values: &Values, machine: &Machine) -> Result<Config, ConfigError> {
    convert_with(values, machine, Credentials::from_values)
}

/// As [`convert`], but credentials need not be there.
pub(crate) fn convert_for_checks(values: &Values, machine: &Machine) -> Result<Config, ConfigError> {
    convert_with(values, machine, |values| match Credentials::from_values(values) {
        Err(ConfigError::Missing(_)) => Ok(Credentials { user: String::new(), pass: String::new() }),
        result => result,
    })
}

fn convert_with(
    values: &Values,
    machine: &Machine,
    credentials: impl FnOnce(&Values) -> Result<Credentials, ConfigError>,
) -> Result<Config, ConfigError> {
    let cpus = cpus(values, machine)?;
    let shards = shards(values, &cpus)?;
    let config = Config {
        credentials: credentials(values)?,
        listen: values.address("listen")?,
        listen_tls: values.if_set("listen_tls", Values::address)?,
        tls: tls(values)?,
        handshake_timeout: values.duration("handshake_timeout")?,
        handshakes_max: values.positive("handshakes_max")?,
        proxy_protocol: values.choice("proxy_protocol", &PROXY_PROTOCOLS)?,
        proxy_trusted: values.if_set("proxy_trusted", Values::networks)?.unwrap_or_default(),
        shards,
        cpus,
        heartbeat_interval: values.duration("heartbeat_interval")?,
        heartbeat_timeout: values.duration("heartbeat_timeout")?,
        auth_timeout: values.duration("auth_timeout")?,
        write_deadline: values.millis("write_deadline_ms")?,
        max_msg_size: values.size("max_msg_size")?,
        drain: Duration::from_secs(values.integer("drain_seconds")?.into()),
        ticks_per_second: values.positive("ticks_per_second")?,
        ticks_per_minute: values.positive("ticks_per_minute")?,
        phase: values.choice("phase", &PHASES)?,
        batch_window: values.millis("batch_window_ms")?,
        replay_window: values.duration("replay_window")?,
        replay_ticks_max: values.integer("replay_ticks_max")?,
        max_connections: values.if_set("max_connections", Values::positive)?,
        max_connections_per_ip: values.if_set("max_connections_per_ip", Values::positive)?,
        unauthenticated_max: values.positive("unauthenticated_max")?,
        unauthenticated_per_ip_max: values.if_set("unauthenticated_per_ip_max", Values::positive)?,
        connections_per_second_max: NonZeroU32::new(values.integer("connections_per_second_max")?),
        auth_failures_per_minute_max: values.integer("auth_failures_per_minute_max")?,
        memory_max_mib: values.if_set("memory_max_mib", Values::positive)?,
        overload_lag: values.duration_or_off("overload_lag")?,
        frames_per_second_max: values.positive("frames_per_second_max")?,
        listen_backlog: values.positive("listen_backlog")?,
        send_buffer: values.size("send_buffer")?,
        unsent_max: values.size("unsent_max")?,
        tcp_keepalive: values.duration_or_off("tcp_keepalive")?,
        tcp_user_timeout: values.duration_or_off("tcp_user_timeout")?,
        admin: values.list("admin", AdminAddress::parse_list)?,
        admin_token: AdminToken::from_values(values)?,
        otlp: otlp(values)?,
        events: Events::from_values(values, shards.get())?,
        log_level: values.parsed("log_level", |text, _| parse::log_filter(text))?,
        log_format: values.choice("log_format", &LOG_FORMATS)?,
        effective: super::effective(values),
    };
    check_rules(&config, values)?;
    Ok(config)
}

/// The rules between settings whose values are each fine. (Those between settings that exclude each other are
/// where these are read: [`cpus`] and [`Credentials::from_values`].)
fn check_rules(config: &Config, values: &Values) -> Result<(), ConfigError> {
    if config.heartbeat_timeout <= config.heartbeat_interval {
        let value = humantime::format_duration(config.heartbeat_interval).to_string();
        let reason = ValueError::NotLongerThan { other: "heartbeat_interval", value };
        return Err(values.get("heartbeat_timeout").invalid(reason));
    }
    if config.write_deadline <= config.batch_window {
        // A tick that waited for company would be late before it is sent.
        let value = humantime::format_duration(config.batch_window).to_string();
        let reason = ValueError::NotLongerThan { other: "batch_window_ms", value };
        return Err(values.get("write_deadline_ms").invalid(reason));
    }
    if config.proxy_protocol != ProxyProtocol::Off && config.proxy_trusted.is_empty() {
        return Err(values.get("proxy_protocol").invalid(ValueError::Needs { other: "proxy_trusted" }));
    }
    if let Some(listen_tls) = config.listen_tls.filter(|&listen_tls| overlap(config.listen, listen_tls)) {
        let reason = ValueError::Overlaps { other: "listen", value: config.listen, own: listen_tls };
        return Err(values.get("listen_tls").invalid(reason));
    }
    for (listens, other) in [(Some(config.listen), "listen"), (config.listen_tls, "listen_tls")] {
        let own = config.admin.iter().find_map(|admin| match (admin, listens) {
            (AdminAddress::Tcp(admin), Some(listens)) => {
                Some(*admin).filter(|&admin| overlap(listens, admin))
            }
            _ => None,
        });
        if let Some((own, value)) = own.zip(listens) {
            return Err(values.get("admin").invalid(ValueError::Overlaps { other, value, own }));
        }
    }
    let shards = config.shards.get();
    if config.max_connections.is_some_and(|max| (max.get() as usize) < shards) {
        let reason = ValueError::LessThan { other: "shards", value: shards };
        return Err(values.get("max_connections").invalid(reason));
    }
    Ok(())
}

/// Whether a connection to one address may be accepted at the other.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // All IPv6 addresses are all IPv4 ones, too (ipv6(7), IPV6_V6ONLY); the reverse isn't so.
    let is_any = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || is_any(a, b) || is_any(b, a))
}

/// The certificates, if there are any; what means nothing without them is an error.
fn tls(values: &Values) -> Result<Option<Tls>, ConfigError> {
    for (key, other) in [
        ("tls_cert", "tls_key"),
        ("tls_key", "tls_cert"),
        ("listen_tls", "tls_cert"),
        ("tls_client_ca", "tls_cert"),
        ("tls_client_auth", "tls_client_ca"),
    ] {
        if values.get(key).is_given() && values.get(key).is_set() && !values.get(other).is_set() {
            return Err(values.get(key).invalid(ValueError::Needs { other }));
        }
    }
    let path = |key: &str| PathBuf::from(&values.get(key).text);
    let optional = values.choice("tls_client_auth", &CLIENT_AUTHS)?;
    let names_user = values.choice("tls_user", &TLS_USERS)?;
    let clients = values.get("tls_client_ca").is_set();
    if names_user && !clients {
        return Err(values.get("tls_user").invalid(ValueError::Needs { other: "tls_client_ca" }));
    }
    let clients = clients.then(|| TlsClients { ca: path("tls_client_ca"), optional, names_user });
    let tls = || Tls { cert: path("tls_cert"), key: path("tls_key"), clients };
    Ok(values.get("tls_cert").is_set().then(tls))
}

/// Where traces go, if they go anywhere; the rest is checked all the same.
fn otlp(values: &Values) -> Result<Option<Otlp>, ConfigError> {
    let endpoint = values.if_set("otlp_endpoint", |values, key| values.parsed(key, OtlpEndpoint::parse))?;
    let sample_one_in = values.positive("otlp_sample_one_in")?;
    let slow_pass = values.duration_or_off("otlp_slow_pass")?;
    Ok(endpoint.map(|endpoint| Otlp { endpoint, sample_one_in, slow_pass }))
}

fn cpus(values: &Values, machine: &Machine) -> Result<Vec<usize>, ConfigError> {
    let (list, node) = (values.get("cpus"), values.get("numa_node"));
    match (list.is_set(), node.is_set()) {
        (true, true) => {
            let reason = ValueError::Excludes { other: "cpus", origin: list.origin.to_string() };
            Err(node.invalid(reason))
        }
        (true, false) => {
            let chosen = placement::parse_cpus(&list.text).and_then(|cpus| machine.choose(cpus));
            chosen.map_err(|error| list.invalid(error))
        }
        (false, true) => {
            let number = values.integer("numa_node")?;
            machine.node(number as usize).map_err(|error| node.invalid(error))
        }
        (false, false) => Ok(machine.allowed.clone()),
    }
}

fn shards(values: &Values, cpus: &[usize]) -> Result<NonZeroUsize, ConfigError> {
    let given = values.if_set("shards", Values::positive)?;
    let shards = given.map_or(cpus.len(), |shards| shards.get() as usize);
    Ok(NonZeroUsize::new(shards).expect("at least one CPU is chosen"))
}

/// Reading one value as one type. The kinds come from the table; a key of another kind is a bug.
impl Values {
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        parser: impl FnOnce(&str, Kind) -> Result<T, ValueError>,
    ) -> Result<T, ConfigError> {
        let value = self.get(key);
        let kind = value.setting.kind;
        if value.text.is_empty() {
            return Err(value.invalid(ValueError::Empty(kind)));
        }
        parser(&value.text, kind).map_err(|reason| value.invalid(reason))
    }

    pub(super) fn if_set<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Self, &str) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        if self.get(key).is_set() { read(self, key).map(Some) } else { Ok(None) }
    }

    pub(super) fn address(&self, key: &str) -> Result<SocketAddr, ConfigError> {
        self.parsed(key, |text, _| Ok(parse::address(text)?))
    }

    pub(super) fn networks(&self, key: &str) -> Result<Vec<Network>, ConfigError> {
        self.parsed(key, |text, _| parse::networks(text))
    }

    /// As [`Values::parsed`], but what is empty is an empty list.
    pub(super) fn list<T>(
        &self,
        key: &str,
        parser: impl FnOnce(&str, Kind) -> Result<Vec<T>, ValueError>,
    ) -> Result<Vec<T>, ConfigError> {
        if self.get(key).is_set() { self.parsed(key, parser) } else { Ok(Vec::new()) }
    }

    pub(super) fn integer(&self, key: &str) -> Result<u32, ConfigError> {
        self.parsed(key, |text, kind| match kind {
            Kind::Integer(range) => parse::integer(text, range),
            _ => unreachable!("{key} is {kind:?}"),
        })
    }

    pub(super) fn positive(&self, key: &str) -> Result<NonZeroU32, ConfigError> {
        let number = self.integer(key)?;
        NonZeroU32::new(number).ok_or_else(|| out_of_range(self.get(key)))
    }

    pub(super) fn millis(&self, key: &str) -> Result<Duration, ConfigError> {
        Ok(Duration::from_millis(self.integer(key)?.into()))
    }

    pub(super) fn duration(&self, key: &str) -> Result<Duration, ConfigError> {
        self.parsed(key, |text, kind| match kind {
            Kind::Duration(range) => parse::duration(text, range),
            _ => unreachable!("{key} is {kind:?}"),
        })
    }

    pub(super) fn duration_or_off(&self, key: &str) -> Result<Option<Duration>, ConfigError> {
        Ok(Some(self.duration(key)?).filter(|duration| !duration.is_zero()))
    }

    pub(super) fn size(&self, key: &str) -> Result<NonZeroU32, ConfigError> {
        let bytes = self.parsed(key, |text, kind| match kind {
            Kind::Size(range) => parse::size(text, range),
            _ => unreachable!("{key} is {kind:?}"),
        })?;
        NonZeroU32::new(bytes).ok_or_else(|| out_of_range(self.get(key)))
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<T, ConfigError> {
        self.parsed(key, |text, kind| parse::choice(text, kind, words))
    }
}

fn out_of_range(value: &Value) -> ConfigError {
    value.invalid(ValueError::OutOfRange(value.setting.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;
    use std::collections::BTreeMap;

    fn convert_with(values: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let nodes = BTreeMap::from([(0, vec![0, 1]), (1, vec![2, 3])]);
        let machine = Machine { allowed: vec![0, 1, 2], nodes };
        let credentials = [("stream_user", "u"), ("stream_pass", "p")];
        let values = Values::of_program(credentials.into_iter().chain(values.iter().copied())).unwrap();
        convert(&values, &machine)
    }

    /// What `field` shows of the configuration, or a part of the error.
    fn check<T: std::fmt::Debug>(
        values: &[(&str, &str)],
        field: impl Fn(Config) -> T,
        expected: Result<&str, &str>,
    ) {
        match (convert_with(values).map(|config| format!("{:?}", field(config))), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    fn check_error(values: &[(&str, &str)], expected: &str) {
        check(values, |_| (), Err(expected));
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let expected = Config {
            credentials: Credentials { user: "u".into(), pass: "p".into() },
            listen: "0.0.0.0:7400".parse().unwrap(),
            listen_tls: None,
            tls: None,
            handshake_timeout: Duration::from_secs(5),
            handshakes_max: number(4_096),
            proxy_protocol: ProxyProtocol::Off,
            proxy_trusted: vec![],
            shards: NonZeroUsize::new(3).unwrap(),
            cpus: vec![0, 1, 2],
            heartbeat_interval: Duration::from_secs(15),
            heartbeat_timeout: Duration::from_secs(20),
            auth_timeout: Duration::from_secs(5),
            write_deadline: Duration::from_millis(5_000),
            max_msg_size: number(65_536),
            drain: Duration::from_secs(5),
            ticks_per_second: number(1),
            ticks_per_minute: number(1),
            phase: Phase::Aligned,
            batch_window: Duration::from_millis(5),
            replay_window: Duration::from_secs(3_600),
            replay_ticks_max: 100_000,
            max_connections: None,
            max_connections_per_ip: None,
            unauthenticated_max: number(16_384),
            unauthenticated_per_ip_max: None,
            connections_per_second_max: Some(number(10_000)),
            auth_failures_per_minute_max: 10,
            memory_max_mib: None,
            overload_lag: Some(Duration::from_secs(3)),
            frames_per_second_max: number(100),
            listen_backlog: number(4_096),
            send_buffer: number(65_536),
            unsent_max: number(16_384),
            tcp_keepalive: Some(Duration::from_secs(30)),
            tcp_user_timeout: Some(Duration::from_secs(20)),
            admin: vec![],
            admin_token: None,
            otlp: None,
            events: None,
            log_level: "info".into(),
            log_format: LogFormat::Auto,
            effective: convert_with(&[]).unwrap().effective,
        };
        assert_eq!(convert_with(&[]).unwrap(), expected);
    }

    #[test]
    fn cpus_and_shards_are_resolved() {
        check(&[("cpus", "2,0")], |c| (c.shards, c.cpus), Ok("(2, [0, 2])"));
        check(&[("cpus", "1"), ("shards", "3")], |c| c.shard_cpus(), Ok("[1, 1, 1]"));
        check(&[("shards", "2")], |c| c.shard_cpus(), Ok("[0, 1]"));
        check(&[("shards", ""), ("cpus", "")], |c| c.shard_cpus(), Ok("[0, 1, 2]"));
        check(&[("numa_node", "1")], |c| c.shard_cpus(), Ok("[2]"));
        check(&[("numa_node", "0")], |c| c.shard_cpus(), Ok("[0, 1]"));
    }

    #[test]
    fn unusable_cpus_are_named() {
        check_error(
            &[("cpus", "0,9")],
            "cpus = \"0,9\" (from program): CPU 9 doesn't exist or isn't allowed here; allowed: 0-2",
        );
        check_error(&[("cpus", "zero")], "cpus = \"zero\" (from program): is not a list of CPUs: \"zero\"");
        check_error(&[("numa_node", "5")], "numa_node = \"5\" (from program): NUMA node 5 doesn't exist");
        check_error(
            &[("cpus", "0"), ("numa_node", "0")],
            "numa_node = \"0\" (from program): excludes cpus, which is set too (from program); set one of them",
        );
        check_error(&[("shards", "0")], "shards = \"0\" (from program): is out of range; accepted: a whole");
    }

    #[test]
    fn settings_that_must_be_longer_than_others_are() {
        check(&[("heartbeat_timeout", "15001ms")], |c| c.heartbeat_timeout, Ok("15.001s"));
        check_error(
            &[("heartbeat_timeout", "5s")],
            "heartbeat_timeout = \"5s\" (from program): must be longer than heartbeat_interval (15s)",
        );
        check_error(
            &[("batch_window_ms", "200"), ("write_deadline_ms", "100")],
            "write_deadline_ms = \"100\" (from program): must be longer than batch_window_ms (200ms)",
        );
        check_error(
            &[("heartbeat_interval", "20s")],
            "heartbeat_timeout = \"20s\" (the default): must be longer than heartbeat_interval (20s)",
        );
    }

    #[test]
    fn each_shard_gets_a_connection() {
        check(&[("max_connections", "3")], |c| c.max_connections, Ok("Some(3)"));
        check(&[("max_connections", "")], |c| c.max_connections, Ok("None"));
        check_error(
            &[("max_connections", "2")],
            "max_connections = \"2\" (from program): must be at least shards (3), so that each shard gets one",
        );
    }

    #[test]
    fn tls_needs_a_certificate_and_its_key() {
        check_error(&[("tls_cert", "c")], "tls_cert = \"c\" (from program): needs tls_key, which isn't set");
        check_error(&[("tls_key", "k")], "needs tls_cert");
        check_error(&[("listen_tls", "[::1]:7443")], "needs tls_cert");
        check_error(&[("tls_client_ca", "a")], "needs tls_cert");
        let pair = [("tls_cert", "c"), ("tls_key", "k")];
        let with = |more: &[(&'static str, &'static str)]| [&pair[..], more].concat();
        check_error(&with(&[("tls_user", "certificate")]), "needs tls_client_ca");
        check_error(&with(&[("tls_client_auth", "optional")]), "needs tls_client_ca");
        for same in ["0.0.0.0:7400", "127.0.0.1:7400", "[::]:7400"] {
            check_error(&with(&[("listen_tls", same)]), "is also where listen (0.0.0.0:7400) accepts");
        }
        check(&pair, |c| c.listeners(), Ok("[(0.0.0.0:7400, true)]"));
        check(
            &with(&[("listen_tls", "0.0.0.0:7443")]),
            |c| c.listeners(),
            Ok("[(0.0.0.0:7400, false), (0.0.0.0:7443, true)]"),
        );
        let clients =
            |c: Config| c.tls.unwrap().clients.map(|clients| (clients.optional, clients.names_user));
        check(&with(&[("tls_client_ca", "a")]), clients, Ok("Some((false, false))"));
        let more = [("tls_client_ca", "a"), ("tls_client_auth", "optional"), ("tls_user", "certificate")];
        check(&with(&more), clients, Ok("Some((true, true))"));
    }

    #[test]
    fn the_admin_endpoint_takes_no_address_of_clients() {
        let at = |admin| check_error(&[("admin", admin)], "is also where listen (0.0.0.0:7400) accepts");
        at("0.0.0.0:7400");
        at("127.0.0.1:9090,127.0.0.1:7400");
        check(&[("admin", "127.0.0.1:9090,[::1]:7400,unix:/run/a")], |_| (), Ok("()"));
        check(&[("admin", "127.0.0.1:0"), ("listen", "127.0.0.1:0")], |_| (), Ok("()"));
        let tls = [("tls_cert", "c"), ("tls_key", "k"), ("listen_tls", "10.0.0.1:9090")];
        check_error(
            &[&tls[..], &[("admin", "[::]:9090")]].concat(),
            "admin = \"[::]:9090\" (from program): is also where listen_tls (10.0.0.1:9090) accepts connections; give \
             [::]:9090 another port",
        );
    }

    #[test]
    fn proxy_headers_need_trusted_networks() {
        check_error(&[("proxy_protocol", "required")], "needs proxy_trusted, which isn't set");
        let trusted = [("proxy_protocol", "optional"), ("proxy_trusted", "10.0.0.0/8, ::1")];
        check(&trusted, |c| c.proxy_trusted.len(), Ok("2"));
        check_error(&[("proxy_trusted", "10.0.0.1/8")], "write 10.0.0.0/8 for the network");
    }

    #[test]
    fn zero_turns_off() {
        check(&[("tcp_keepalive", "0s")], |c| c.tcp_keepalive, Ok("None"));
        check(&[("tcp_user_timeout", "0s")], |c| c.tcp_user_timeout, Ok("None"));
        check(&[("batch_window_ms", "0")], |c| c.batch_window, Ok("0ns"));
        check(&[("replay_window", "0s")], |c| c.replay_window, Ok("0ns"));
    }

    #[test]
    fn traces_go_nowhere_unless_there_is_an_endpoint() {
        check(&[("otlp_sample_one_in", "7")], |c| c.otlp, Ok("None"));
        let otlp = [("otlp_endpoint", "http://[::1]:4318"), ("otlp_slow_pass", "0s")];
        let found = |c: Config| c.otlp.map(|otlp| (otlp.sample_one_in.get(), otlp.slow_pass));
        check(&otlp, found, Ok("Some((100, None))"));
        check_error(&[("otlp_sample_one_in", "0")], "is out of range");
    }

    #[test]
    fn bounds_are_accepted_and_what_is_beyond_is_not() {
        let bounds = [
            ("batch_window_ms", "1000", "1001"),
            ("max_msg_size", "1KiB", "1023"),
            ("max_msg_size", "16MiB", "16777217"),
            ("ticks_per_second", "10000000", "10000001"),
            ("ticks_per_minute", "600000000", "600000001"),
            ("replay_window", "24h", "24h 1ms"),
            ("tcp_keepalive", "1s", "500ms"),
            ("drain_seconds", "0", "3601"),
        ];
        for (key, within, beyond) in bounds {
            check(&[(key, within)], |_| (), Ok("()"));
            check_error(&[(key, beyond)], &format!("{key} = {beyond:?} (from program): is out of range"));
        }
    }

    #[test]
    fn words_of_the_table_are_all_understood() {
        for setting in settings::settings() {
            if let Kind::Choice(words) = setting.kind {
                let with =
                    [("tls_cert", "c"), ("tls_key", "k"), ("tls_client_ca", "a"), ("proxy_trusted", "::1")];
                let with = |word| [&with[..], &[(setting.key, word)]].concat();
                words.iter().for_each(|word| check(&with(word), |_| (), Ok("()")));
                check_error(&with("other"), "is not known; accepted: ");
            }
        }
    }

    #[test]
    fn every_setting_is_read() {
        for setting in
            settings::settings().filter(|setting| !matches!(setting.kind, Kind::Credential | Kind::Path))
        {
            check_error(&[(setting.key, "\u{1}")], &format!("{} = ", setting.key));
        }
    }

    #[test]
    fn an_empty_value_is_an_error_where_one_is_needed() {
        check_error(&[("listen", "")], "listen = \"\" (from program): is empty; accepted: an IP address");
        check_error(&[("heartbeat_interval", "")], "is empty; accepted: a duration");
        check_error(&[("listen", "7400")], "listen = \"7400\" (from program): is only a port");
        check_error(&[("log_level", "loud")], "log_level = \"loud\" (from program): is not a log filter");
    }
}
