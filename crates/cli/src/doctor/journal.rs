//! The journals' directory: whether it can be written to, what it is on, and how fast that brings a write to stable
//! storage. A file is made there for it, and removed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Diagnosis, Host, Plan, Topic, Verdict, in_bytes};

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "journal directory",
        why: "each shard keeps a journal in it, and doesn't start without",
        look: directory,
    },
    Topic {
        name: "journal file system",
        why: "a journal relies on fsync being honest and on names that stay: a file system in memory loses all with \
              the machine, one on a network adds its trips to each acknowledgement and may lie about locks",
        look: file_system,
    },
    Topic {
        name: "O_DIRECT",
        why: "journals go past the page cache where the file system lets them: a fdatasync then waits for their own \
              bytes alone, and the cache stays for others",
        look: direct,
    },
    Topic {
        name: "journal space",
        why: "when the disk is full, events are refused until there is room; ticks go on, and nothing is deleted \
              but by journal_max_mib and journal_max_days",
        look: space,
    },
    Topic {
        name: "journal syncs",
        why: "a PUBLISH is acknowledged when its events are on stable storage: no acknowledgement is faster than the \
              disk, and what comes meanwhile shares the next write",
        look: syncs,
    },
];

/// Place and limits of the journals.
#[derive(Clone, Debug)]
pub struct JournalPlan {
    /// The directory of all journals.
    pub directory: PathBuf,
    /// Length of a segment, bytes.
    pub segment_bytes: u64,
    /// Space that one shard's journal may take, bytes.
    pub bytes_max: Option<u64>,
    /// True if old events are removed.
    pub is_bounded_by_age: bool,
}

/// Not worth a word up to there, half of the measured ones.
const SYNC_GOOD: Duration = Duration::from_millis(20);
/// Bytes of a write, and of the file that takes them, which is written before.
const WRITE_BYTES: usize = 4_096;
const FILE_BYTES: usize = 256 * WRITE_BYTES;
/// Writes that are measured, as far as there is time for them.
const SYNCS: usize = 100;
const SYNCS_WITHIN: Duration = Duration::from_secs(2);

/// Magic numbers, as statfs(2) has them, of file systems that aren't for journals: `linux/magic.h`.
const IN_MEMORY: [(i64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
const ON_NETWORK: [(i64, &str); 4] =
    [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB"), (0x0102_1997, "9p")];
const LOCAL: [(i64, &str); 5] = [
    (0xef53, "ext4"),
    (0x5846_5342, "XFS"),
    (0x9123_683e, "Btrfs"),
    (0x2fc1_2fc1, "ZFS"),
    (0x794c_7630, "overlay"),
];

fn directory(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = "there, or can be made; writable for the server's user";
    let Some(journal) = tried(host, plan) else { return not_tried(wanted) };
    let (there, found) = place(&journal.directory);
    match Scratch::new(there) {
        Ok(_) => Diagnosis::ok(found, wanted),
        Err(error) => {
            let path = journal.directory.display();
            Diagnosis::ok(
                format!("{found}, but a file can't be made in {}: {error}", there.display()),
                wanted,
            )
            .but(
                Verdict::MustFix,
                [
                    format!("install -d -o tickstream -g tickstream -m 0700 {path}"),
                    format!("systemd: ReadWritePaths={path}"),
                ],
            )
        }
    }
}

fn file_system(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = "a local one with a journal of its own: ext4 or XFS";
    let Some(journal) = tried(host, plan) else { return not_tried(wanted) };
    let (there, _) = place(&journal.directory);
    let kind = match rustix::fs::statfs(there) {
        #[expect(clippy::unnecessary_cast, reason = "its type isn't the same on all architectures")]
        Ok(stat) => stat.f_type as i64,
        Err(error) => return Diagnosis::unknown(format!("statfs fails: {error}"), wanted),
    };
    let named =
        |list: &[(i64, &'static str)]| list.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name);
    let elsewhere = ["mount a disk of its own there, with ext4 or XFS, and name that by --journal"];
    if let Some(name) = named(&IN_MEMORY) {
        Diagnosis::ok(format!("{name}, which is memory"), wanted).but(Verdict::MustFix, elsewhere)
    } else if let Some(name) = named(&ON_NETWORK) {
        Diagnosis::ok(format!("{name}, which is a network's"), wanted).but(Verdict::Advice, elsewhere)
    } else {
        Diagnosis::ok(named(&LOCAL).map_or_else(|| format!("type {kind:#x}"), ToOwned::to_owned), wanted)
    }
}

fn direct(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = "files can be written with O_DIRECT";
    let Some(journal) = tried(host, plan) else { return not_tried(wanted) };
    match Scratch::new(place(&journal.directory).0).and_then(|scratch| scratch.open_direct()) {
        Ok(_) => Diagnosis::ok("they can", wanted),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let fix = [
                "a file system that has it, such as ext4 or XFS; without it journals go through the page cache",
            ];
            Diagnosis::ok("the file system refuses it", wanted).but(Verdict::Advice, fix)
        }
        Err(error) => Diagnosis::unknown(format!("it can't be tried: {error}"), wanted),
    }
}

fn space(host: &Host, plan: &Plan) -> Diagnosis {
    let Some(journal) = tried(host, plan) else { return not_tried("room for journal_max_mib") };
    let shards = plan.shards as u64;
    // A full segment, one that is written, and one that is made ready.
    let least = 3 * journal.segment_bytes * shards;
    let (needed, wanted) = match journal.bytes_max {
        Some(each) => (each * shards, format!("journal_max_mib: {}", in_bytes(each * shards))),
        None => (
            least,
            format!("without journal_max_mib at least {}, and all that is to be kept", in_bytes(least)),
        ),
    };
    let stat = match rustix::fs::statvfs(place(&journal.directory).0) {
        Ok(stat) => stat,
        Err(error) => return Diagnosis::unknown(format!("statvfs fails: {error}"), wanted),
    };
    let (free, used) = (stat.f_bavail * stat.f_frsize, used(&journal.directory));
    let diagnosis = Diagnosis::ok(format!("{} free, {} in journals", in_bytes(free), in_bytes(used)), wanted);
    let available = free + used;
    let fits = available / (1 << 20) * 9 / 10;
    if available < needed && journal.bytes_max.is_some() {
        diagnosis.but(Verdict::MustFix, [format!("--journal-max-mib {fits}"), "or a larger disk".to_owned()])
    } else if available < least {
        diagnosis.but(Verdict::MustFix, ["a larger disk, or a smaller --journal-segment-mib"])
    } else if journal.bytes_max.is_none() && !journal.is_bounded_by_age {
        diagnosis.but(Verdict::Advice, [format!("--journal-max-mib {fits}, or --journal-max-days")])
    } else {
        diagnosis
    }
}

fn syncs(host: &Host, plan: &Plan) -> Diagnosis {
    let wanted = format!("half of them within {} ms", SYNC_GOOD.as_millis());
    let Some(journal) = tried(host, plan) else { return not_tried(&wanted) };
    let mut took = match Scratch::new(place(&journal.directory).0).and_then(|scratch| scratch.measure()) {
        Ok(took) => took,
        Err(error) => return Diagnosis::unknown(format!("it can't be measured: {error}"), wanted),
    };
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    let seconds = took.iter().sum::<Duration>().as_secs_f64();
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let found = format!(
        "{} writes of 4 KiB, each with fdatasync, one after the other: {:.0} a second, half within {:.2} ms, 99 % within \
         {:.2} ms",
        took.len(),
        took.len() as f64 / seconds,
        ms(at(50)),
        ms(at(99))
    );
    let diagnosis = Diagnosis::ok(found, wanted);
    if at(50) > SYNC_GOOD {
        return diagnosis.but(
            Verdict::Advice,
            ["an SSD, best with power-loss protection; or a disk that others don't write to at the same time"],
        );
    }
    diagnosis
}

/// The plan for the journal, if this machine's disks may be tried.
fn tried<'a>(host: &Host, plan: &'a Plan) -> Option<&'a JournalPlan> {
    plan.journal.as_ref().filter(|_| host.io_uring.is_some())
}

fn not_tried(wanted: &str) -> Diagnosis {
    Diagnosis::unknown("only files are looked at", wanted)
}

/// The directory, or the one above it in which it would be made; and a word about that.
fn place(directory: &Path) -> (&Path, String) {
    let here = Path::new(".");
    let above = directory.ancestors().map(|path| if path.as_os_str().is_empty() { here } else { path });
    let there = above.into_iter().find(|path| path.is_dir()).unwrap_or(here);
    let found = directory.display();
    (there, if there == directory { format!("{found}") } else { format!("{found} doesn't exist yet") })
}

/// Space that its journals take, bytes.
fn used(directory: &Path) -> u64 {
    let files = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let journals = files(directory).map(|entry| entry.path()).filter(|path| path.is_dir());
    journals
        .flat_map(|path| {
            // A segment may be longer than what it takes.
            files(&path)
                .filter_map(|file| file.metadata().ok())
                .map(|file| 512 * file.blocks())
                .collect::<Vec<_>>()
        })
        .sum()
}

/// A file to try things with. Dropping it removes it.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!(".tickstream-doctor-{}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, file })
    }

    fn open_direct(&self) -> io::Result<File> {
        OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&self.path)
    }

    /// Times that writes took until they were on stable storage. They go where something was written before, as
    /// those of journals do.
    fn measure(&self) -> io::Result<Vec<Duration>> {
        self.file.write_all_at(&vec![0; FILE_BYTES], 0)?;
        self.file.sync_all()?;
        let file = self.open_direct().or_else(|_| self.file.try_clone())?;
        let memory = vec![0xa5_u8; 2 * WRITE_BYTES];
        let start = memory.as_ptr().align_offset(WRITE_BYTES);
        let block = &memory[start..start + WRITE_BYTES];
        let began = Instant::now();
        let mut took = Vec::new();
        while took.len() < SYNCS && (took.is_empty() || began.elapsed() < SYNCS_WITHIN) {
            let offset = (took.len() * WRITE_BYTES % FILE_BYTES) as u64;
            let start = Instant::now();
            file.write_all_at(block, offset)?;
            file.sync_data()?;
            took.push(start.elapsed());
        }
        Ok(took)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
