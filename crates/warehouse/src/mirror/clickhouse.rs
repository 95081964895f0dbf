//! ClickHouse over HTTP.

use std::time::Duration;

use reqwest::Client;
use url::Url;

/// Time of one request.
const REQUEST_TIME: Duration = Duration::from_secs(300);
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Bytes of an error that are kept.
const REASON_CHARS_MAX: usize = 500;

/// Request to ClickHouse that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClickHouseError {
    /// The URL names no ClickHouse.
    #[error("{url:?} is no URL such as http://user:password@host:8123/database")]
    Url {
        /// URL that was given, without its password.
        url: String,
    },
    /// ClickHouse can't be reached.
    #[error("asking ClickHouse at {address}")]
    Request {
        /// Host and port.
        address: String,
        /// The error.
        source: reqwest::Error,
    },
    /// ClickHouse refused.
    #[error("ClickHouse at {address} refused: {reason}")]
    Refused {
        /// Host and port.
        address: String,
        /// Beginning of its answer.
        reason: String,
    },
    /// Rows are left after a deletion.
    #[error("{rows} rows of the erased identifier are left in ClickHouse's table {table}")]
    Left {
        /// The table.
        table: String,
        /// Their number.
        rows: String,
    },
}

/// One ClickHouse and one of its databases.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
    url: Url,
    user: String,
    password: String,
    database: String,
}

impl std::fmt::Debug for ClickHouse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouse")
            .field("address", &self.address())
            .field("database", &self.database)
            .finish()
    }
}

impl ClickHouse {
    /// The ClickHouse at a URL, whose path names the database.
    ///
    /// # Errors
    /// [`ClickHouseError::Url`].
    pub fn at(text: &str) -> Result<Self, ClickHouseError> {
        let bad = || {
            let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
            ClickHouseError::Url { url: shown.to_owned() }
        };
        let mut url = Url::parse(text).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad());
        }
        let database = url.path().trim_matches('/').to_owned();
        let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
        if !database.chars().all(is_name) {
            return Err(bad());
        }
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().map(|text| text.into_owned())
        };
        let user = decoded(url.username()).map_err(|_| bad())?;
        let password = decoded(url.password().unwrap_or_default()).map_err(|_| bad())?;
        url.set_path("/");
        // Neither fails for HTTP.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let client = Client::builder().connect_timeout(CONNECT_TIME).timeout(REQUEST_TIME).build();
        let client =
            client.map_err(|source| ClickHouseError::Request { address: url.to_string(), source })?;
        let database = if database.is_empty() { "default".to_owned() } else { database };
        Ok(Self { client, url, user, password, database })
    }

    fn address(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", self.url.host_str().unwrap_or_default())
    }

    /// Runs a statement; its answer.
    ///
    /// # Errors
    /// If ClickHouse refuses or can't be reached.
    pub async fn execute(&self, sql: &str) -> Result<String, ClickHouseError> {
        self.post(&[("allow_experimental_json_type", "1")], sql.as_bytes().to_vec()).await
    }

    /// Inserts Parquet under a token.
    ///
    /// # Errors
    /// If ClickHouse refuses or can't be reached; then the rows may be there all the same.
    pub async fn insert(&self, sql: &str, token: &str, parquet: Vec<u8>) -> Result<(), ClickHouseError> {
        let parameters = [
            ("query", sql),
            ("insert_deduplication_token", token),
            ("insert_deduplicate", "1"),
            // What is answered is stored.
            ("async_insert", "0"),
            ("wait_end_of_query", "1"),
            // One block for each token: blocks count by themselves.
            ("min_insert_block_size_rows", "0"),
            ("min_insert_block_size_bytes", "0"),
            ("max_insert_block_size", "100000000"),
            ("input_format_parquet_max_block_size", "100000000"),
            ("max_partitions_per_insert_block", "1000"),
        ];
        self.post(&parameters, parquet).await.map(drop)
    }

    /// Tables of the mirror in the database.
    ///
    /// # Errors
    /// If ClickHouse refuses or can't be reached.
    pub async fn tables(&self) -> Result<Vec<String>, ClickHouseError> {
        let sql =
            "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = 'tickstream'";
        let names = self.execute(sql).await?;
        Ok(names.lines().filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    async fn post(&self, parameters: &[(&str, &str)], body: Vec<u8>) -> Result<String, ClickHouseError> {
        let failed = |source: reqwest::Error| ClickHouseError::Request {
            address: self.address(),
            source: source.without_url(),
        };
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("database", &self.database).extend_pairs(parameters);
        let mut request = self.client.post(url).body(body);
        if !self.user.is_empty() {
            request =
                request.header("X-ClickHouse-User", &self.user).header("X-ClickHouse-Key", &self.password);
        }
        let answer = request.send().await.map_err(failed)?;
        let is_refused =
            !answer.status().is_success() || answer.headers().contains_key("X-ClickHouse-Exception-Code");
        let text = answer.text().await.map_err(failed)?;
        if is_refused {
            let reason = text.trim().chars().take(REASON_CHARS_MAX).collect();
            return Err(ClickHouseError::Refused { address: self.address(), reason });
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_address_user_and_database() {
        let clickhouse = ClickHouse::at("http://me:p%40ss@127.0.0.1:8123/events").unwrap();
        assert_eq!(
            (clickhouse.address(), clickhouse.user.as_str(), clickhouse.password.as_str()),
            ("127.0.0.1:8123".to_owned(), "me", "p@ss")
        );
        assert_eq!(clickhouse.database, "events");
        assert!(!format!("{clickhouse:?}").contains("p@ss"));
        assert_eq!(ClickHouse::at("https://example.org").unwrap().database, "default");
        for wrong in ["", "ftp://x/", "http://me:secret@x/a;b", "nonsense"] {
            let error = ClickHouse::at(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
