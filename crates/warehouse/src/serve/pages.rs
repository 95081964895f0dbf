//! Pages beside the queries: answers to GET that another crate makes.

use std::pin::Pin;

use crate::query::Role;

/// A page being made.
pub type Making<'a> = Pin<Box<dyn Future<Output = Page> + Send + 'a>>;

/// Makes pages. Nothing that it does writes: a request that a page of another site forges changes nothing.
pub trait Pages: Send + Sync {
    /// Page at a path, with the address' query without `?`, for a user who was authenticated.
    fn page<'a>(&'a self, path: &'a str, query: &'a str, role: &'a Role) -> Making<'a>;
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Status of HTTP.
    pub status: u16,
    /// Media type.
    pub kind: &'static str,
    /// Headers beside it.
    pub headers: Vec<(&'static str, String)>,
    /// Content.
    pub body: Vec<u8>,
}
