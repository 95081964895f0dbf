//! Hash tables for keys that clients choose: fast, and seeded by chance.

use std::collections;

/// Hash map.
pub type HashMap<K, V> = collections::HashMap<K, V, foldhash::fast::RandomState>;
/// Hash set.
pub type HashSet<K> = collections::HashSet<K, foldhash::fast::RandomState>;
