//! A [`Disk`] as a file system of this host, by the kernel's FUSE protocol (linux/fuse.h, version 7.31).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use super::disk::{Dark, Disk, Node};

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;
const ENOTEMPTY: i32 = 39;

const IN_HEADER: usize = 40;
const WRITE_MAX: u32 = 128 << 10;
const BIG_WRITES: u32 = 1 << 5;
const DIRECTORY_MODE: u32 = 0o040_755;
const FILE_MODE: u32 = 0o100_644;
const NO_REPLACE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const SIZE_IS_SET: u32 = 8;

/// Calls of the protocol.
mod call {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const CREATE: u32 = 35;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const RENAME2: u32 = 45;
}

/// A disk that is mounted until this is dropped.
#[derive(Debug)]
pub struct Mount {
    directory: PathBuf,
    disk: Arc<Mutex<Disk>>,
}

impl Mount {
    /// Mounts `disk` at `directory`.
    ///
    /// # Errors
    /// If this process may not: it needs root and /dev/fuse.
    pub fn new(disk: Arc<Mutex<Disk>>, directory: &Path) -> io::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        // mount(8) hands the number of the descriptor to the kernel: that of its standard input.
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other"])
            .args(["tickstream-test", &directory.display().to_string()])
            .stdin(Stdio::from(device.try_clone()?))
            .output()?;
        if !mounted.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&mounted.stderr).into_owned()));
        }
        let served = disk.clone();
        std::thread::spawn(move || serve(device, &served));
        Ok(Self { directory: directory.to_owned(), disk })
    }

    /// The disk.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Files that are still open keep it for as long as they are.
        let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
    }
}

/// Answers calls until it is unmounted.
fn serve(mut device: File, disk: &Mutex<Disk>) {
    let mut buffer = vec![0; WRITE_MAX as usize + 64 * 1024];
    while let Ok(length) = device.read(&mut buffer) {
        let request = Request(&buffer[..length]);
        let answer = {
            let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            answer(&mut disk, &request)
        };
        let Some(answer) = answer else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let mut reply = Out::default();
        reply.u32(16 + body.len() as u32).u32(error as u32).u64(request.unique());
        reply.0.extend(body);
        // Who asked may be gone.
        let _ = device.write(&reply.0);
    }
}

/// A request, as it comes from the kernel.
struct Request<'a>(&'a [u8]);

impl Request<'_> {
    fn u32(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    fn call(&self) -> u32 {
        self.u32(4)
    }

    fn unique(&self) -> u64 {
        self.u64(8)
    }

    fn node(&self) -> u64 {
        self.u64(16)
    }

    /// A number of the call's own part.
    fn part(&self, at: usize) -> u32 {
        self.u32(IN_HEADER + at)
    }

    fn long(&self, at: usize) -> u64 {
        self.u64(IN_HEADER + at)
    }

    /// Names behind `at`, each ended by a zero.
    fn names(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        self.0.get(IN_HEADER + at..).unwrap_or_default().split(|byte| *byte == 0)
    }

    fn name(&self, at: usize) -> &[u8] {
        self.names(at).next().unwrap_or_default()
    }
}

#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn attributes(&mut self, number: u64, node: &Node) -> &mut Self {
        let (mode, size, modified) = match node {
            Node::Directory { .. } => (DIRECTORY_MODE, 4096, UNIX_EPOCH),
            Node::File(content) => (FILE_MODE, content.now.len() as u64, content.modified),
        };
        let seconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.u64(number).u64(size).u64(size.div_ceil(512));
        // Times of access, of the last change of bytes and of attributes; their nanoseconds.
        self.u64(seconds).u64(seconds).u64(seconds).u32(0).u32(0).u32(0);
        self.u32(mode).u32(1).u32(0).u32(0).u32(0).u32(4096).u32(0)
    }

    /// A name's node. Nothing is kept by the kernel: it asks again each time.
    fn entry(&mut self, number: u64, node: &Node) -> &mut Self {
        self.u64(number).u64(0).u64(0).u64(0).u32(0).u32(0).attributes(number, node)
    }

    fn opened(&mut self) -> &mut Self {
        self.u64(0).u32(0).u32(0)
    }

    fn done(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

type Answer = Result<Vec<u8>, i32>;

impl From<Dark> for i32 {
    fn from(_: Dark) -> Self {
        EIO
    }
}

/// Answer of a call; `None` if none is expected.
fn answer(disk: &mut Disk, request: &Request<'_>) -> Option<Answer> {
    match request.call() {
        call::FORGET | call::BATCH_FORGET => return None,
        call::INIT => return Some(Ok(init(request))),
        call::RELEASE | call::RELEASEDIR | call::FLUSH => return Some(Ok(Vec::new())),
        _ if disk.is_dark() => return Some(Err(EIO)),
        _ => {}
    }
    Some(match request.call() {
        call::LOOKUP => found(disk, request.node(), request.name(0)),
        call::GETATTR => attributes(disk, request.node()),
        call::SETATTR => set_attributes(disk, request),
        call::OPEN | call::OPENDIR => Ok(Out::default().opened().done()),
        call::READ => read(disk, request),
        call::WRITE => write(disk, request),
        call::STATFS => Ok(statistics()),
        call::FSYNC | call::FSYNCDIR => disk.sync(request.node()).map(|()| Vec::new()).map_err(i32::from),
        call::READDIR => list(disk, request),
        call::FALLOCATE => punch(disk, request),
        call::MKDIR | call::CREATE => make(disk, request),
        call::UNLINK | call::RMDIR => remove(disk, request),
        call::RENAME => rename(disk, request, 8, 0),
        call::RENAME2 => rename(disk, request, 16, request.part(8)),
        call::LINK => link(disk, request),
        _ => Err(ENOSYS),
    })
}

fn init(request: &Request<'_>) -> Vec<u8> {
    let mut out = Out::default();
    out.u32(7).u32(31).u32(request.part(8)).u32(BIG_WRITES);
    // Requests in the background, and from when on they wait; then the longest write and the steps of times.
    out.u32(16 | 12 << 16).u32(WRITE_MAX).u32(1);
    out.0.resize(64, 0);
    out.done()
}

fn statistics() -> Vec<u8> {
    let mut out = Out::default();
    for _ in 0..5 {
        out.u64(1 << 20);
    }
    out.u32(4096).u32(255).u32(4096);
    out.0.resize(80, 0);
    out.done()
}

fn node(disk: &Disk, number: u64) -> Result<&Node, i32> {
    disk.node(number).ok_or(ENOENT)
}

fn found(disk: &Disk, directory: u64, name: &[u8]) -> Answer {
    let number = disk.find(directory, name).ok_or(ENOENT)?;
    Ok(Out::default().entry(number, node(disk, number)?).done())
}

fn attributes(disk: &Disk, number: u64) -> Answer {
    Ok(Out::default().u64(0).u64(0).attributes(number, node(disk, number)?).done())
}

fn set_attributes(disk: &mut Disk, request: &Request<'_>) -> Answer {
    if request.part(0) & SIZE_IS_SET != 0 {
        disk.truncate(request.node(), request.long(16) as usize)?;
    }
    attributes(disk, request.node())
}

fn read(disk: &Disk, request: &Request<'_>) -> Answer {
    let Node::File(content) = node(disk, request.node())? else { return Err(EINVAL) };
    let start = (request.long(8) as usize).min(content.now.len());
    let end = (start + request.part(16) as usize).min(content.now.len());
    Ok(content.now[start..end].to_vec())
}

fn write(disk: &mut Disk, request: &Request<'_>) -> Answer {
    let bytes = request.0.get(IN_HEADER + 40..).unwrap_or_default();
    disk.write(request.node(), request.long(8) as usize, bytes)?;
    Ok(Out::default().u32(bytes.len() as u32).u32(0).done())
}

fn punch(disk: &mut Disk, request: &Request<'_>) -> Answer {
    if request.part(24) & PUNCH_HOLE == 0 {
        return Err(ENOSYS);
    }
    let Node::File(content) = node(disk, request.node())? else { return Err(EINVAL) };
    let start = (request.long(8) as usize).min(content.now.len());
    let end = (start + request.long(16) as usize).min(content.now.len());
    disk.write(request.node(), start, &vec![0; end - start])?;
    Ok(Vec::new())
}

fn list(disk: &Disk, request: &Request<'_>) -> Answer {
    let Node::Directory { now, .. } = node(disk, request.node())? else { return Err(ENOTDIR) };
    let (skipped, room) = (request.long(8) as usize, request.part(16) as usize);
    let mut out = Out::default();
    for (index, (name, number)) in now.iter().enumerate().skip(skipped) {
        let length = (24 + name.len()).next_multiple_of(8);
        if out.0.len() + length > room {
            break;
        }
        let mode = match disk.node(*number) {
            Some(Node::Directory { .. }) => DIRECTORY_MODE,
            _ => FILE_MODE,
        };
        let end = out.0.len() + length;
        out.u64(*number).u64(index as u64 + 1).u32(name.len() as u32).u32(mode >> 12);
        out.0.extend(name);
        out.0.resize(end, 0);
    }
    Ok(out.done())
}

fn make(disk: &mut Disk, request: &Request<'_>) -> Answer {
    let is_directory = request.call() == call::MKDIR;
    let name = request.name(if is_directory { 8 } else { 16 });
    if disk.find(request.node(), name).is_some() {
        return Err(EEXIST);
    }
    let number = disk.make(request.node(), name, is_directory)?;
    let mut out = Out::default();
    out.entry(number, node(disk, number)?);
    if !is_directory {
        out.opened();
    }
    Ok(out.done())
}

fn remove(disk: &mut Disk, request: &Request<'_>) -> Answer {
    let name = request.name(0);
    let number = disk.find(request.node(), name).ok_or(ENOENT)?;
    if matches!(node(disk, number)?, Node::Directory { now, .. } if !now.is_empty()) {
        return Err(ENOTEMPTY);
    }
    disk.unlink(request.node(), name)?;
    Ok(Vec::new())
}

fn rename(disk: &mut Disk, request: &Request<'_>, names_at: usize, flags: u32) -> Answer {
    let mut names = request.names(names_at);
    let (Some(old), Some(new)) = (names.next(), names.next()) else { return Err(EINVAL) };
    let (from, to) = (request.node(), request.long(0));
    let number = disk.find(from, old).ok_or(ENOENT)?;
    if flags & NO_REPLACE != 0 && disk.find(to, new).is_some() {
        return Err(EEXIST);
    }
    disk.rename((from, old), (to, new), number)?;
    Ok(Vec::new())
}

fn link(disk: &mut Disk, request: &Request<'_>) -> Answer {
    let (number, name) = (request.long(0), request.name(8));
    if disk.find(request.node(), name).is_some() {
        return Err(EEXIST);
    }
    disk.link(request.node(), name, number)?;
    Ok(Out::default().entry(number, node(disk, number)?).done())
}
