//! Names and places of the tables that jobs write.

/// Directory of these tables, below the root.
pub const DIRECTORY: &str = "jobs";

/// Whether a table may have this name.
pub fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_part)
}

/// Place of a table, below the root.
pub fn place_of(table: &str) -> String {
    format!("{DIRECTORY}/{table}")
}
