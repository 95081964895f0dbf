//! Repeats one operation, so that its instructions can be counted from outside. `scripts/micro` does that.
//!
//! Run under callgrind with N and with 2 N repetitions, the difference of both totals is what N repetitions
//! executed: start and preparation cancel out. Unlike time it doesn't depend on what else the machine does.
//!
//!     instructions --list             one line a case: items of one operation, tab, name
//!     instructions --cpu              the CPU's features that select code at run time, as this process sees them
//!     instructions <case> <repetitions>
//!
//! # What is counted
//!
//! valgrind answers `cpuid` itself. 3.19 offers SSE4.2, PCLMULQDQ and AVX2 where the CPU has them, and never
//! AVX-512. So on a CPU with AVX-512 other code is counted than production executes, in two places:
//!
//! - CRC32C of more than 256 bytes: crc-fast's SSE4.2 and PCLMULQDQ loop instead of the one for AVX-512 and
//!   VPCLMULQDQ. Up to 256 bytes, which is all but large batches, it is the same loop of CRC32 instructions.
//! - `memcpy` and its like: glibc's versions for AVX2 (`avx_unaligned_erms`) instead of those for AVX-512.
//!
//! `wall` executes what production does. An instruction isn't a nanosecond: cache misses, of which a fan-out over
//! 10,000 sessions has many, aren't seen here.

#![forbid(unsafe_code)]

mod cases;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--list"] => cases::all().for_each(|case| println!("{}\t{case}", case.items)),
        ["--cpu"] => println!("{}", cpu()),
        // From cargo bench, which says so, and which has nothing here to measure: shows that each case runs.
        [] | ["--bench"] => cases::all().for_each(|case| repeat(case, 1)),
        [name, repetitions] => {
            let case = cases::all().find(|case| case.name == name);
            let (Some(case), Ok(repetitions)) = (case, repetitions.parse()) else {
                eprintln!("no case \"{name}\", or \"{repetitions}\" is no number; --list lists the cases");
                return ExitCode::from(2);
            };
            repeat(case, repetitions);
        }
        _ => {
            eprintln!("usage: instructions <case> <repetitions> | --list | --cpu; see scripts/micro");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn repeat(case: &cases::Case, repetitions: u32) {
    let mut operation = (case.prepare)();
    measured(&mut operation, repetitions);
}

/// Has a frame of its own, for `scripts/micro --profile` to recognize.
#[inline(never)]
fn measured(operation: &mut dyn FnMut(), repetitions: u32) {
    for _ in 0..repetitions {
        operation();
    }
}

/// Whatever crc-fast and glibc choose by, such as "sse4.2 pclmulqdq avx2".
#[cfg(target_arch = "x86_64")]
fn cpu() -> String {
    let features = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("vpclmulqdq", is_x86_feature_detected!("vpclmulqdq")),
    ];
    let present: Vec<&str> =
        features.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect();
    present.join(" ")
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu() -> String {
    std::env::consts::ARCH.to_owned()
}
