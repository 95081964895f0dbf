#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod admin;
pub mod certificate;
pub mod credentials;
pub mod logs;
pub mod metrics;
pub mod notify;
pub mod otlp;
pub mod pattern;
pub mod settings;
pub mod signals;
pub mod standard;
pub mod text;
