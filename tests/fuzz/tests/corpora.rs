//! The corpora, and mutations of them, on the stable toolchain. One test: the targets count what is allocated, which
//! another thread would disturb.

use std::path::Path;
use std::time::{Duration, Instant};

/// For each target, once its corpus is through; `FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 2;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a file")).collect()
}

/// splitmix64
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 27)) as usize
}

fn mutated(corpus: &[Vec<u8>], state: &mut u64) -> Vec<u8> {
    let mut bytes = corpus[random(state) % corpus.len()].clone();
    for _ in 0..1 + random(state) % 4 {
        let at = random(state) % (bytes.len() + 1);
        match random(state) % 5 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random(state) as u8),
            2 => bytes.extend_from_slice(&corpus[random(state) % corpus.len()]),
            3 if at < bytes.len() => bytes[at] ^= 1 << (random(state) % 8),
            _ if at < bytes.len() => bytes[at] = [0, 0x7f, 0x80, 0xff][random(state) % 4],
            _ => {}
        }
    }
    bytes.truncate(16_384);
    bytes
}

#[test]
fn corpora_and_mutations_of_them_find_nothing() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    for (name, target) in tickstream_fuzz::TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "no corpus of {name}");
        corpus.iter().for_each(|bytes| target(bytes));
        let (began, mut state, mut tried) = (Instant::now(), 0x5EED, 0_u64);
        while began.elapsed() < Duration::from_secs(seconds) {
            let bytes = mutated(&corpus, &mut state);
            if let Err(panic) = std::panic::catch_unwind(|| target(&bytes)) {
                eprintln!("{name}, mutation {tried}: {bytes:02x?}");
                std::panic::resume_unwind(panic);
            }
            tried += 1;
        }
        println!("{name}: {} of its corpus, {tried} mutations", corpus.len());
    }
}
