//! Settings that every program has: its admin endpoint, its traces, its log.

use crate::admin::{self, AdminAddress, AdminToken};
use crate::logs::LogFormat;
use crate::otlp::{self, OtlpEndpoint};
use crate::settings::{ConfigError, Values, kind};
use std::path::PathBuf;

const LOG_FORMATS: &[(&str, LogFormat)] =
    &[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("human", LogFormat::Human)];

crate::settings! {
    /// Settings that every program has, each valid by itself.
    pub struct Standard, handles in setting;

    section "Admin endpoint" {
        /// Addresses at which metrics, health and settings are served over HTTP. All who reach it can read them: keep it on the
        /// loopback or on a network of your own.
        admin: Vec<AdminAddress> = admin::addresses().or_none_of_them("none: there is no admin endpoint");
        /// File with the token that changes need on TCP.
        admin_token_file: Option<PathBuf> =
            kind::path().or_none("none: changes are taken on a unix socket only").live();
    }

    section "OpenTelemetry" {
        /// Endpoint of a collector that takes OTLP over HTTP; /v1/traces is appended. Spans name clients' addresses, and go there
        /// unencrypted: keep it on the loopback or on a network of your own.
        otlp_endpoint: Option<OtlpEndpoint> = otlp::endpoint().or_none("none: nothing is traced");
    }

    section "Logs" {
        /// Lines that are logged: a level, or a filter of tracing-subscriber.
        log_level: String = kind::log_filter().default("info").live();
        /// Format of the log on stderr; auto: human on a terminal, else json.
        log_format: LogFormat = kind::choice(LOG_FORMATS).value_name("FORMAT").default("auto");
    }
}

impl Standard {
    /// Reads the token that `admin_token_file` names, if it names one.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if the file has no usable token.
    pub fn admin_token(&self, values: &Values) -> Result<Option<AdminToken>, ConfigError> {
        let token = self.admin_token_file.as_deref().map(AdminToken::from_file).transpose();
        token.map_err(|reason| values.get(&setting::admin_token_file).invalid(reason))
    }
}
