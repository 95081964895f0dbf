//! Users and sessions as UUIDs, the type that the required table has for them.
//!
//! A UUID stays what it is. Other text becomes a UUIDv5 under a namespace that only this installation knows: the UUID of
//! an e-mail address under a public namespace could be found by trying addresses.

use ring::digest;

use super::text;
use crate::hash::HashMap;

/// Mapped texts that are kept in memory.
const CACHE_MAX: usize = 65_536;

/// Secret namespace of an installation.
#[derive(Clone, Copy)]
pub struct Namespace([u8; 16]);

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Namespace(secret)")
    }
}

impl Namespace {
    /// The namespace with these bytes.
    pub fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    /// Text form of the UUID of an identifier.
    pub fn map(&self, identifier: &[u8]) -> [u8; 36] {
        let bytes = text::parse_uuid(identifier).unwrap_or_else(|| self.version_5(identifier));
        text::uuid_text(&bytes)
    }

    /// RFC 9562, section 5.5.
    fn version_5(&self, name: &[u8]) -> [u8; 16] {
        let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(&self.0);
        hash.update(name);
        let mut bytes: [u8; 16] = hash.finish().as_ref()[..16].try_into().expect("SHA-1 has twenty bytes");
        bytes[6] = bytes[6] & 0x0F | 0x50;
        bytes[8] = bytes[8] & 0x3F | 0x80;
        bytes
    }
}

/// Maps identifiers, the frequent ones from memory.
#[derive(Debug)]
pub struct Identifiers {
    namespace: Namespace,
    known: HashMap<Box<[u8]>, [u8; 36]>,
}

impl Identifiers {
    /// An empty memory.
    pub fn new(namespace: Namespace) -> Self {
        Self { namespace, known: HashMap::default() }
    }

    /// Text form of the UUID of an identifier.
    pub fn map(&mut self, identifier: &[u8]) -> [u8; 36] {
        if let Some(mapped) = self.known.get(identifier) {
            return *mapped;
        }
        if self.known.len() == CACHE_MAX {
            self.known.clear();
        }
        let mapped = self.namespace.map(identifier);
        self.known.insert(identifier.into(), mapped);
        mapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(namespace: Namespace, identifier: &str) -> String {
        String::from_utf8(namespace.map(identifier.as_bytes()).to_vec()).unwrap()
    }

    #[test]
    fn other_text_is_version_5_as_rfc_9562_has_it() {
        // RFC 9562, appendix A.4: www.example.com under the namespace of DNS names.
        let dns = text::parse_uuid(b"6ba7b810-9dad-11d1-80b4-00c04fd430c8").unwrap();
        assert_eq!(mapped(Namespace::new(dns), "www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }

    #[test]
    fn a_uuid_stays_and_is_lower_case() {
        let id = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
        assert_eq!(mapped(Namespace::new([7; 16]), id), id.to_lowercase());
    }

    #[test]
    fn two_installations_map_alike_only_what_is_a_uuid() {
        let (one, other) = (Namespace::new([1; 16]), Namespace::new([2; 16]));
        assert_ne!(mapped(one, "someone@example.com"), mapped(other, "someone@example.com"));
        let mut memory = Identifiers::new(one);
        for _ in 0..2 {
            assert_eq!(
                memory.map(b"someone@example.com").as_slice(),
                mapped(one, "someone@example.com").as_bytes()
            );
        }
    }
}
