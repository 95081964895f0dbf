//! TLS as a client is told of it.

use super::{
    ConfigError,
    parse::ValueError,
    values::{Value, Values},
};
use tickstream_client::{TlsConfig, TlsConfigError};

/// TLS as the values want it; `None` if they want none. Reads the files that they name.
///
/// # Errors
///
/// [`ConfigError::Value`] names the setting that can't be used, or lacks another, or contradicts it.
pub fn client_tls(values: &Values) -> Result<Option<TlsConfig>, ConfigError> {
    let switch = values.get("tls");
    let (ca, certificate, key, name) = (
        values.get("tls_ca"),
        values.get("tls_client_cert"),
        values.get("tls_client_key"),
        values.get("tls_server_name"),
    );
    let wanted = match switch.text.as_str() {
        "on" => true,
        "off" => false,
        _ => return Err(switch.invalid(ValueError::Choice(switch.setting.kind))),
    };
    let implied = [ca, certificate, key, name].into_iter().find(|value| value.is_set());
    match implied {
        None if !wanted => return Ok(None),
        Some(implied) if !wanted && switch.is_given() => {
            let (other, origin) = (implied.setting.key, implied.origin.to_string());
            return Err(switch.invalid(ValueError::Excludes { other, origin }));
        }
        _ => {}
    }
    for (one, other) in [(certificate, key), (key, certificate)] {
        if one.is_set() && !other.is_set() {
            return Err(one.invalid(ValueError::Needs { other: other.setting.key }));
        }
    }
    let mut tls = if ca.is_set() {
        TlsConfig::with_ca_file(&ca.text).map_err(|error| invalid(ca, error))?
    } else {
        TlsConfig::with_system_roots().map_err(|error| invalid(switch, error))?
    };
    if certificate.is_set() {
        tls = tls.client_certificate_files(&certificate.text, &key.text).map_err(|error| {
            let about_key = error.file() == Some(key.text.as_ref());
            invalid(if about_key { key } else { certificate }, error)
        })?;
    }
    if name.is_set() {
        tls = tls.server_name(&name.text).map_err(|error| invalid(name, error))?;
    }
    Ok(Some(tls))
}

fn invalid(value: &Value, error: TlsConfigError) -> ConfigError {
    value.invalid(ValueError::Tls(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use std::ffi::OsString;

    fn tls(values: &[(&'static str, &str)]) -> Result<Option<TlsConfig>, String> {
        let flags: Flags = values.iter().map(|(key, value)| (*key, OsString::from(value))).collect();
        let values = Values::of_client(&flags, &|_| None).unwrap();
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
