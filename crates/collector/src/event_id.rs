//! Ids of events whose senders give none, or can't be trusted with them.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// A UUID of version 5 (RFC 9562, section 5.5).
pub fn uuid_v5(namespace: &[u8; 16], name: &[&[u8]]) -> [u8; 16] {
    let mut sha1 = ring::digest::Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    sha1.update(namespace);
    name.iter().for_each(|part| sha1.update(part));
    let mut id = [0; 16];
    id.copy_from_slice(&sha1.finish().as_ref()[..16]);
    id[6] = 0x50 | id[6] & 0x0F;
    id[8] = 0x80 | id[8] & 0x3F;
    id
}

/// The namespace of a key's events: the same in each collector, since it depends on nothing but the key's name.
pub fn key_namespace(key_name: &str) -> [u8; 16] {
    // A random UUID, the root of all namespaces.
    const ROOT: [u8; 16] = 0x8F1C_53E6_0B7D_4A29_9E54_C1D0_6A3B_72F8_u128.to_be_bytes();
    uuid_v5(&ROOT, &[key_name.as_bytes()])
}

/// Ids of the records of one body: the same when the same body comes again with the same key.
#[derive(Clone, Debug)]
pub struct BodyIds {
    first: [u8; 16],
}

impl BodyIds {
    /// For the records of `body`.
    pub fn new(namespace: [u8; 16], body: &[u8]) -> Self {
        Self { first: uuid_v5(&namespace, &[digest(&SHA256, body).as_ref()]) }
    }

    /// The id of the record with this index: the first one, and those that follow without a digest for each.
    pub fn id(&self, index: u32) -> [u8; 16] {
        counted(self.first, index)
    }
}

/// The id that comes so many after a UUID, as its last 62 bits count: for version 7 an id of its own without asking the
/// system for each (RFC 9562, section 6.2, method 2). The bits before tell it from those after any other UUID.
pub fn counted(first: [u8; 16], count: u32) -> [u8; 16] {
    const COUNTED: u128 = (1 << 62) - 1;
    let first = u128::from_be_bytes(first);
    ((first & !COUNTED) | ((first + u128::from(count)) & COUNTED)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_ids_differ_in_their_last_bits_alone() {
        let first = 0x0193_5006_9B80_7111_BFFF_FFFF_FFFF_FFFF_u128.to_be_bytes();
        assert_eq!(counted(first, 0), first);
        let expected = 0x0193_5006_9B80_7111_8000_0000_0000_0004_u128;
        assert_eq!(u128::from_be_bytes(counted(first, 5)), expected, "version and variant stay");
    }

    #[test]
    fn a_name_has_the_uuid_of_the_rfc() {
        // RFC 9562, appendix A.4
        let dns = 0x6BA7_B810_9DAD_11D1_80B4_00C0_4FD4_30C8_u128.to_be_bytes();
        let expected = 0x2ED6_657D_E927_568B_95E1_2665_A8AE_A6A2_u128;
        assert_eq!(u128::from_be_bytes(uuid_v5(&dns, &[b"www.", b"example.com"])), expected);
    }

    #[test]
    fn the_same_body_has_the_same_ids_and_no_other_has() {
        let (web, tv) = (key_namespace("web"), key_namespace("tv"));
        let ids = BodyIds::new(web, b"body");
        assert_eq!(ids.id(7), BodyIds::new(web, b"body").id(7));
        let others = [ids.id(8), BodyIds::new(web, b"bodz").id(7), BodyIds::new(tv, b"body").id(7)];
        assert!(others.iter().all(|other| *other != ids.id(7)));
    }
}
