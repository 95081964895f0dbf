//! Settings of a client: user, password and TLS.

use std::path::PathBuf;
use tickstream_client::{TlsConfig, TlsConfigError};
use tickstream_service::credentials::CredentialSettings;
use tickstream_service::settings::{ConfigError, Table, Value, ValueError, Values, kind};

/// Every setting of a client. It has no file.
pub static TABLE: Table = Table {
    command: "tickstream watch",
    groups: &[CredentialSettings::SECTIONS, TlsSettings::SECTIONS],
    former_variables: &[
        "STREAM_PASS_FILE",
        "STREAM_TLS",
        "STREAM_TLS_CA",
        "STREAM_TLS_CLIENT_CERT",
        "STREAM_TLS_CLIENT_KEY",
        "STREAM_TLS_SERVER_NAME",
    ],
};

const SWITCH: &[(&str, bool)] = &[("on", true), ("off", false)];

tickstream_service::settings! {
    /// TLS of a client.
    pub struct TlsSettings, handles in setting;

    section "TLS" {
        /// Speak TLS 1.3, with servers whose certificate this system's authorities, or those of tls_ca, have signed.
        /// Without it the password crosses the network in the clear.
        tls: bool = kind::choice(SWITCH).value_name("SWITCH").default("off");
        /// PEM file with the certificates of the authorities to trust, and no others. Implies tls.
        tls_ca: Option<PathBuf> = kind::path().value_name("FILE").or_none("the system's");
        /// PEM file with a certificate to show to servers that ask for one. Implies tls.
        tls_client_cert: Option<PathBuf> = kind::path().value_name("FILE").or_none("none");
        /// PEM file with the private key of tls_client_cert, unencrypted.
        tls_client_key: Option<PathBuf> = kind::path().value_name("FILE").or_none("none");
        /// Name that the servers' certificates must have. Implies tls.
        tls_server_name: Option<String> =
            kind::text(|| "a DNS name or an IP address".to_owned(), |name| Ok(Some(name.to_owned())))
                .value_name("NAME")
                .or_none("the host of --addr");
    }
}

/// TLS as the values want it; `None` if they want none. Reads the files that they name.
///
/// # Errors
///
/// [`ConfigError::Value`] names the setting that can't be used, or lacks another, or contradicts it.
pub fn client_tls(values: &Values) -> Result<Option<TlsConfig>, ConfigError> {
    let settings = TlsSettings::read(values)?;
    let (switch, ca) = (values.get(&setting::tls), values.get(&setting::tls_ca));
    let (certificate, key) = (values.get(&setting::tls_client_cert), values.get(&setting::tls_client_key));
    let name = values.get(&setting::tls_server_name);
    let implied = [&ca, &certificate, &key, &name].into_iter().find(|value| value.is_set());
    match implied {
        None if !settings.tls => return Ok(None),
        Some(implied) if !settings.tls && switch.is_given() => {
            let (other, origin) = (implied.key(), implied.origin.to_string());
            return Err(switch.invalid(ValueError::Excludes { other, origin }));
        }
        _ => {}
    }
    for (one, other) in [(&certificate, &key), (&key, &certificate)] {
        if one.is_set() && !other.is_set() {
            return Err(one.invalid(ValueError::Needs { other: other.key() }));
        }
    }
    let mut tls = if ca.is_set() {
        TlsConfig::with_ca_file(&ca.text).map_err(|error| invalid(&ca, error))?
    } else {
        TlsConfig::with_system_roots().map_err(|error| invalid(&switch, error))?
    };
    if certificate.is_set() {
        tls = tls.client_certificate_files(&certificate.text, &key.text).map_err(|error| {
            let about_key = error.file() == Some(key.text.as_ref());
            invalid(if about_key { &key } else { &certificate }, error)
        })?;
    }
    if name.is_set() {
        tls = tls.server_name(&name.text).map_err(|error| invalid(&name, error))?;
    }
    Ok(Some(tls))
}

/// A file or a name that TLS can't be had with.
#[derive(Debug, thiserror::Error)]
#[error("can't be used: {}", tickstream_client::with_causes(.0))]
struct Unusable(TlsConfigError);

fn invalid(value: &Value, error: TlsConfigError) -> ConfigError {
    value.invalid(ValueError::program(Unusable(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use tickstream_service::settings::Flags;

    fn tls(values: &[(&'static str, &str)]) -> Result<Option<TlsConfig>, String> {
        let flags: Flags = values.iter().map(|(key, value)| (*key, OsString::from(value))).collect();
        let values = Values::merge(&TABLE, &flags, &|_| None, None).unwrap();
        client_tls(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_word_there_is_none() {
        assert!(tls(&[]).unwrap().is_none());
        assert!(tls(&[("tls", "off"), ("tls_ca", "")]).unwrap().is_none());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |values: &[(&'static str, &str)], expected: &str| {
            let error = tls(values).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(&[("tls", "yes")], "tls = \"yes\" (from flag --tls): is not known; accepted: on or off");
        check(
            &[("tls", "off"), ("tls_ca", "ca.pem")],
            "tls = \"off\" (from flag --tls): excludes tls_ca, which is set too (from flag --tls-ca)",
        );
        check(
            &[("tls_client_cert", "a.pem")],
            "(from flag --tls-client-cert): needs tls_client_key, which isn't set",
        );
        check(&[("tls_client_key", "a.key")], "(from flag --tls-client-key): needs tls_client_cert");
        check(
            &[("tls_ca", "absent.pem")],
            "tls_ca = \"absent.pem\" (from flag --tls-ca): can't be used: can't read absent.pem: No such file",
        );
        check(
            &[("tls_ca", "Cargo.toml")],
            "tls_ca = \"Cargo.toml\" (from flag --tls-ca): can't be used: Cargo.toml holds no certificate",
        );
    }
}
