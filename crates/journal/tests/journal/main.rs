//! The journal over simulated disks and real directories.

mod beside;
mod every_bit;
mod files;
mod follow;
mod power_cuts;
mod promises;
mod unowned;

use tickstream_journal::{Config, Journal, Now, SimulatedDisk};

/// Five records of a block each fill a segment.
fn config() -> Config {
    Config {
        segment_bytes: 6 * 4096,
        group_bytes: 2 * 4096,
        buffers: 2,
        zero_bytes: 2 * 4096,
        ..Config::default()
    }
}

/// Drives a journal until nothing is on the way.
fn settle(journal: &mut Journal, disk: &mut SimulatedDisk, now: Now) {
    loop {
        journal.drive(now, disk).unwrap();
        let Some(completion) = disk.complete_one() else { return };
        journal.completed(now, completion).unwrap();
    }
}
