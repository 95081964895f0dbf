//! Fixtures of the tests of event collection.

pub(crate) mod samples;
