//! What the modules that are tested under loom (tests/loom) share memory by. There, this module's place is taken by
//! loom's.

pub use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic};
