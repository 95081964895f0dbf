//! Trait of the sources that speak HTTP.

use super::{Encoding, Head, Refusal, Reply};
use crate::{
    outcome::{Malformed, Outcome},
    writer::EventWriter,
};

/// A decoder of one protocol's bodies, and its words for answers. No I/O.
pub trait HttpSource: Sync {
    /// Name in metrics, logs and with each event: "otlp".
    fn name(&self) -> &'static str;

    /// Checks Content-Type and Content-Encoding, before any of the body is read.
    ///
    /// # Errors
    /// A sentence for people, which says what is taken.
    fn accepts(&self, _head: &Head) -> Result<(), String> {
        Ok(())
    }

    /// True if senders need a key: all do, but for paths that show nothing of anybody's.
    fn needs_key(&self) -> bool {
        true
    }

    /// Decodes a body. Records that can't be taken are rejected by the writer, others go on.
    ///
    /// # Errors
    /// [`Malformed`], if the body as a whole can't be read.
    fn decode(&self, head: &Head, body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed>;

    /// The body's encoding, for protocols that don't say it by Content-Encoding alone.
    fn encoding(&self, _head: &Head, _body: &[u8]) -> Option<Encoding> {
        None
    }

    /// True if the body may have the secret: of other protocols, none is read without a key.
    fn may_have_secret_in_body(&self) -> bool {
        false
    }

    /// The secret in the body, for protocols that have it there.
    fn secret_in_body(&self, _head: &Head, _body: &[u8]) -> Option<String> {
        None
    }

    /// The answer to a request whose events all have a final verdict.
    fn success(&self, head: &Head, outcome: &Outcome) -> Reply;

    /// The answer to a request that wasn't taken, or not all of it.
    fn refusal(&self, head: &Head, refusal: &Refusal) -> Reply;

    /// True if records without ids are the same when the same body comes again.
    fn has_retries(&self) -> bool {
        true
    }
}
