//! Settings into [`Config`]: every value parsed once, every rule that spans settings in one place.

use super::readers::SettingError;
use super::settings::{ClientAuth, Settings, UserName, setting};
use super::users::read_users;
use super::{Config, Credentials, Events, Otlp, ProxyProtocol, Tls, TlsClients};
use crate::placement::Machine;
use std::{net::SocketAddr, num::NonZeroUsize};
use tickstream_service::admin::AdminAddress;
use tickstream_service::credentials::setting as credentials;
use tickstream_service::settings::{self as service, AnySetting, ConfigError, ValueError, Values};
use tickstream_service::standard::{self, Standard};

/// The settings of the one user without a file.
const CREDENTIALS: [&dyn AnySetting; 3] =
    [&credentials::stream_user, &credentials::stream_pass, &credentials::stream_pass_file];

/// Parses every value, then checks the rules between them.
pub(crate) fn convert(values: &Values, machine: &Machine) -> Result<Config, ConfigError> {
    convert_with(values, machine, |values| {
        let is_given = CREDENTIALS.iter().any(|setting| values.get(*setting).is_given());
        if values.get(&setting::users_file).is_set() && !is_given {
            return Ok(None);
        }
        Credentials::from_values(values).map(Some)
    })
}

/// As [`convert`], but credentials need not be there.
pub(crate) fn convert_for_checks(values: &Values, machine: &Machine) -> Result<Config, ConfigError> {
    convert_with(values, machine, |values| match Credentials::from_values(values) {
        Err(ConfigError::Missing(_)) => Ok(None),
        result => result.map(Some),
    })
}

fn convert_with(
    values: &Values,
    machine: &Machine,
    credentials: impl FnOnce(&Values) -> Result<Option<Credentials>, ConfigError>,
) -> Result<Config, ConfigError> {
    let credentials = credentials(values)?;
    let (settings, standard) = (Settings::read(values)?, Standard::read(values)?);
    let cpus = cpus(&settings, values, machine)?;
    let shards = NonZeroUsize::new(settings.shards.map_or(cpus.len(), |shards| shards.get() as usize));
    let shards = shards.unwrap_or(NonZeroUsize::MIN);
    let users = match &settings.users_file {
        Some(path) => {
            let users = read_users(path, credentials.as_ref().map(|credentials| &*credentials.user));
            users.map_err(|error| values.get(&setting::users_file).invalid(SettingError::Users(error)))?
        }
        None => Vec::new(),
    };
    let config = Config {
        credentials,
        users,
        tls: tls(&settings, values)?,
        shards,
        cpus,
        admin_token: standard.admin_token(values)?,
        otlp: standard.otlp_endpoint.clone().map(|endpoint| Otlp {
            endpoint,
            sample_one_in: settings.otlp_sample_one_in,
            slow_pass: settings.otlp_slow_pass,
        }),
        events: Events::new(&settings, values, shards.get())?,
        settings,
        standard,
        effective: service::effective(values),
    };
    check_rules(&config, values)?;
    Ok(config)
}

/// The rules between settings whose values are each fine. (Those between settings that exclude each other are
/// where these are read: [`cpus`] and [`Credentials::from_values`].)
fn check_rules(config: &Config, values: &Values) -> Result<(), ConfigError> {
    let Config { settings, standard, .. } = config;
    let longer = |longer: &'static dyn AnySetting, other: &'static str, than| {
        let value = service::show_duration(than);
        Err(values.get(longer).invalid(ValueError::NotLongerThan { other, value }))
    };
    if settings.heartbeat_timeout <= settings.heartbeat_interval {
        return longer(&setting::heartbeat_timeout, "heartbeat_interval", settings.heartbeat_interval);
    }
    if settings.write_deadline_ms <= settings.batch_window_ms {
        // A tick that waited for others would be late before it is sent.
        return longer(&setting::write_deadline_ms, "batch_window_ms", settings.batch_window_ms);
    }
    if settings.proxy_protocol != ProxyProtocol::Off && settings.proxy_trusted.is_empty() {
        return Err(values
            .get(&setting::proxy_protocol)
            .invalid(ValueError::Needs { other: "proxy_trusted" }));
    }
    if let Some(listen_tls) = settings.listen_tls.filter(|&listen_tls| overlap(settings.listen, listen_tls)) {
        let reason = SettingError::Overlaps { other: "listen", value: settings.listen, own: listen_tls };
        return Err(values.get(&setting::listen_tls).invalid(reason));
    }
    for (listens, other) in [(Some(settings.listen), "listen"), (settings.listen_tls, "listen_tls")] {
        let own = standard.admin.iter().find_map(|admin| match (admin, listens) {
            (AdminAddress::Tcp(admin), Some(listens)) => {
                Some(*admin).filter(|&admin| overlap(listens, admin))
            }
            _ => None,
        });
        if let Some((own, value)) = own.zip(listens) {
            let reason = SettingError::Overlaps { other, value, own };
            return Err(values.get(&standard::setting::admin).invalid(reason));
        }
    }
    let shards = config.shards.get();
    if settings.max_connections.is_some_and(|max| (max.get() as usize) < shards) {
        let reason = SettingError::LessThan { other: "shards", value: shards };
        return Err(values.get(&setting::max_connections).invalid(reason));
    }
    Ok(())
}

/// Tells whether a connection to one address may be accepted at the other.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // All IPv6 addresses are all IPv4 ones, too (ipv6(7), IPV6_V6ONLY); the reverse isn't so.
    let is_any = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || is_any(a, b) || is_any(b, a))
}

/// The certificates, if there are any; settings that mean nothing without them are errors.
fn tls(settings: &Settings, values: &Values) -> Result<Option<Tls>, ConfigError> {
    let certificate = settings.tls_cert.is_some();
    let (key, ca) = (settings.tls_key.is_some(), settings.tls_client_ca.is_some());
    let names_user = settings.tls_user == UserName::Certificate;
    let rules: [(bool, &'static dyn AnySetting, bool, &'static str); 6] = [
        (certificate, &setting::tls_cert, key, "tls_key"),
        (key, &setting::tls_key, certificate, "tls_cert"),
        (settings.listen_tls.is_some(), &setting::listen_tls, certificate, "tls_cert"),
        (ca, &setting::tls_client_ca, certificate, "tls_cert"),
        (settings.tls_client_auth.is_some(), &setting::tls_client_auth, ca, "tls_client_ca"),
        (names_user, &setting::tls_user, ca, "tls_client_ca"),
    ];
    for (is_set, setting, needed_is_set, other) in rules {
        if is_set && !needed_is_set {
            return Err(values.get(setting).invalid(ValueError::Needs { other }));
        }
    }
    let optional = settings.tls_client_auth == Some(ClientAuth::Optional);
    let clients = settings.tls_client_ca.clone().map(|ca| TlsClients { ca, optional, names_user });
    let pair = settings.tls_cert.clone().zip(settings.tls_key.clone());
    Ok(pair.map(|(cert, key)| Tls { cert, key, clients }))
}

fn cpus(settings: &Settings, values: &Values, machine: &Machine) -> Result<Vec<usize>, ConfigError> {
    let (list, node) = (values.get(&setting::cpus), values.get(&setting::numa_node));
    match (&settings.cpus, settings.numa_node) {
        (Some(_), Some(_)) => {
            Err(node.invalid(ValueError::Excludes { other: "cpus", origin: list.origin.to_string() }))
        }
        (Some(cpus), None) => {
            machine.choose(cpus.clone()).map_err(|error| list.invalid(SettingError::Placement(error)))
        }
        (None, Some(number)) => {
            machine.node(number as usize).map_err(|error| node.invalid(SettingError::Placement(error)))
        }
        (None, None) => Ok(machine.allowed.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogFormat;
    use super::*;
    use crate::config::TABLE;
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;
    use std::time::Duration;
    use tickstream_engine::Phase;

    fn convert_with(values: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let nodes = BTreeMap::from([(0, vec![0, 1]), (1, vec![2, 3])]);
        let machine = Machine { allowed: vec![0, 1, 2], nodes };
        let credentials = [("stream_user", "u"), ("stream_pass", "p")];
        let values =
            Values::of_program(&TABLE, credentials.into_iter().chain(values.iter().copied())).unwrap();
        convert(&values, &machine)
    }

    /// The configuration as `field` shows it, or a part of the error.
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

    /// Defaults that clients and operators rely on; the others stand in the table alone.
    #[test]
    fn defaults_are_the_required_ones() {
        let config = convert_with(&[]).unwrap();
        let Config { settings, standard, .. } = &config;
        assert_eq!(settings.heartbeat_interval, Duration::from_secs(15));
        assert_eq!(settings.heartbeat_timeout, Duration::from_secs(20));
        assert_eq!(settings.write_deadline_ms, Duration::from_secs(5));
        assert_eq!(settings.batch_window_ms, Duration::from_millis(5));
        assert_eq!(settings.max_msg_size.get(), 65_536);
        assert_eq!(settings.listen, "0.0.0.0:7400".parse().unwrap());
        assert_eq!((settings.phase, settings.proxy_protocol), (Phase::Aligned, ProxyProtocol::Off));
        assert_eq!((settings.overload_lag, settings.tcp_keepalive).0, Some(Duration::from_secs(3)));
        assert_eq!(settings.connections_per_second_max, NonZeroU32::new(10_000));
        assert_eq!((config.shards.get(), &config.cpus[..]), (3, &[0, 1, 2][..]));
        assert_eq!((&config.tls, &config.otlp, &config.events), (&None, &None, &None));
        assert_eq!((standard.admin.len(), &config.admin_token), (0, &None));
        assert_eq!((&*standard.log_level, standard.log_format), ("info", LogFormat::Auto));
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
        check(&[("heartbeat_timeout", "15001ms")], |c| c.settings.heartbeat_timeout, Ok("15.001s"));
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
        check(&[("max_connections", "3")], |c| c.settings.max_connections, Ok("Some(3)"));
        check(&[("max_connections", "")], |c| c.settings.max_connections, Ok("None"));
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
        let listeners =
            |c: Config| c.listeners().iter().map(|at| (at.address, at.is_tls)).collect::<Vec<_>>();
        check(&pair, listeners, Ok("[(0.0.0.0:7400, true)]"));
        check(
            &with(&[("listen_tls", "0.0.0.0:7443")]),
            listeners,
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
        check(&trusted, |c| c.settings.proxy_trusted.len(), Ok("2"));
        check_error(&[("proxy_trusted", "10.0.0.1/8")], "write 10.0.0.0/8 for the network");
    }

    #[test]
    fn zero_turns_off() {
        check(&[("tcp_keepalive", "0s")], |c| c.settings.tcp_keepalive, Ok("None"));
        check(&[("tcp_user_timeout", "0s")], |c| c.settings.tcp_user_timeout, Ok("None"));
        check(&[("batch_window_ms", "0")], |c| c.settings.batch_window_ms, Ok("0ns"));
        check(&[("replay_window", "0s")], |c| c.settings.replay_window, Ok("0ns"));
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
            ("drain_seconds", "1h", "61m"),
            ("event_age_max_days", "30d", "0"),
            ("write_deadline_ms", "10m", "600001"),
        ];
        for (key, within, beyond) in bounds {
            check(&[(key, within)], |_| (), Ok("()"));
            check_error(&[(key, beyond)], &format!("{key} = {beyond:?} (from program): is out of range"));
        }
    }

    #[test]
    fn words_of_the_table_are_all_understood() {
        let with = [("tls_cert", "c"), ("tls_key", "k"), ("tls_client_ca", "a"), ("proxy_trusted", "::1")];
        let words = TABLE.settings().filter_map(|setting| {
            let accepts = setting.accepts();
            let is_choice =
                accepts.split(" or ").all(|word| !word.contains([' ', ','])) && accepts.contains(" or ");
            is_choice.then(|| (setting.about().key, accepts))
        });
        let mut choices = 0;
        for (key, accepts) in words {
            let with = |word| [&with[..], &[(key, word)]].concat();
            accepts.split(" or ").for_each(|word| check(&with(word), |_| (), Ok("()")));
            check_error(&with("other"), "is not known; accepted: ");
            choices += 1;
        }
        assert_eq!(choices, 8);
    }

    #[test]
    fn every_setting_is_read() {
        let any_text = ["stream_user", "stream_pass"];
        let of_text = TABLE.settings().filter(|setting| !any_text.contains(&setting.about().key));
        for setting in of_text.filter(|setting| setting.accepts() != "a path") {
            check_error(&[(setting.about().key, "\u{1}")], &format!("{} = ", setting.about().key));
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
