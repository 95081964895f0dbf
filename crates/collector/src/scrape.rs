//! Scraping of Prometheus' exporters: `[[source.scrape]]`.
//!
//! [`config`] reads the jobs, [`targets`] and [`relabel`] tell what to scrape, [`fetch`] asks, [`scraper`] turns answers
//! into events, [`job`] runs all targets of a job.

pub mod address;
pub mod config;
pub mod fetch;
pub mod job;
pub mod relabel;
pub mod scraper;
pub mod targets;
