use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use tickstream_schema::events::{Event, Publish, PublishAck, Rejected};

use super::*;
use crate::{BadMessage, publish::event::PublishEvent};

const PRODUCER: Producer = Producer { id: [7; 16], next_sequence: 1 };
const LINGER: Duration = Duration::from_secs(10);
const BATCH: BatchLimits = BatchLimits { events: 3, bytes: 4096, linger: LINGER };
const QUEUE: QueueLimits = QueueLimits { events: 100, bytes: 1 << 20 };
const RETRY_MAX: Duration = Duration::from_secs(1);

fn pipeline() -> Pipeline {
    pipeline_of(BATCH, QUEUE)
}

fn pipeline_of(batch: BatchLimits, queue: QueueLimits) -> Pipeline {
    let retry = Backoff::new(Duration::from_millis(100), RETRY_MAX, fastrand::Rng::with_seed(1));
    Pipeline::new((batch, queue, Compression::None), PRODUCER, retry)
}

fn connected(credits: u32) -> Pipeline {
    let mut pipeline = pipeline();
    assert!(pipeline.connected(limits(credits, 4096)).is_empty());
    pipeline
}

fn limits(credits: u32, payload_max: u32) -> PublishLimits {
    PublishLimits { credits, payload_max, events_max: 2048 }
}

/// An event that is known by `name`.
fn event(name: u64, len: usize) -> Event {
    Event { timestamp: name, event_name: "e".repeat(len), ..Event::default() }
}

fn push(pipeline: &mut Pipeline, names: impl IntoIterator<Item = u64>, now: Instant) {
    for name in names {
        pipeline.push(&event(name, 5).encode_to_vec(), name, now).unwrap();
    }
}

/// Sequence and names of the next batch.
fn sent(pipeline: &mut Pipeline, now: Instant) -> Option<(u64, Vec<u64>)> {
    let mut payload = Vec::new();
    pipeline.poll_publish(now, &mut payload).then(|| {
        let publish = Publish::decode(&payload[..]).unwrap();
        (publish.sequence, publish.events.iter().map(|event| event.timestamp).collect())
    })
}

fn ack(sequence: u64, accepted: u32, rejected: &[(u32, bool)]) -> PublishAck {
    let reject =
        |&(index, retryable)| Rejected { index, code: "CODE".into(), message: "words".into(), retryable };
    PublishAck {
        sequence,
        accepted,
        rejected: rejected.iter().map(reject).collect(),
        producer_id: PRODUCER.id.to_vec(),
        ..PublishAck::default()
    }
}

#[test]
fn a_batch_goes_when_it_is_full_or_its_first_event_has_waited() {
    let t0 = Instant::now();
    let mut pipeline = connected(8);
    push(&mut pipeline, 1..=7, t0);
    assert_eq!(sent(&mut pipeline, t0), Some((1, vec![1, 2, 3])));
    assert_eq!(sent(&mut pipeline, t0), Some((2, vec![4, 5, 6])));
    assert_eq!(sent(&mut pipeline, t0), None);
    assert_eq!(pipeline.next_timeout(), Some(t0 + LINGER));
    push(&mut pipeline, [8], t0 + LINGER / 2);
    assert_eq!(sent(&mut pipeline, t0 + LINGER), Some((3, vec![7, 8])));
    assert_eq!((sent(&mut pipeline, t0 + 2 * LINGER), pipeline.next_timeout()), (None, None));
}

#[test]
fn a_batch_has_no_more_bytes_than_the_server_takes() {
    let t0 = Instant::now();
    let mut pipeline = pipeline_of(BatchLimits { events: 100, ..BATCH }, QUEUE);
    pipeline.connected(limits(8, 2048));
    let encoded = event(1, 900).encode_to_vec();
    assert!(pipeline.push(&encoded, 0, t0).unwrap(), "the first one starts the clock");
    assert!(!pipeline.push(&encoded, 0, t0).unwrap());
    assert!(pipeline.push(&encoded, 0, t0).unwrap(), "two are a batch");
    let mut payload = Vec::new();
    assert!(pipeline.poll_publish(t0, &mut payload));
    assert!(payload.len() <= 2048, "{}", payload.len());
    assert_eq!(Publish::decode(&payload[..]).unwrap().events.len(), 2);
    let too_large = pipeline.push(&event(1, 2048).encode_to_vec(), 0, t0);
    assert!(matches!(too_large, Err(PublishError::TooLarge { bytes_max: 1995, .. })), "{too_large:?}");
    assert!(pipeline.push(&vec![0; 1995], 0, t0).is_ok());
}

#[test]
fn a_batch_has_no_more_events_than_the_server_takes() {
    let t0 = Instant::now();
    let mut pipeline = connected(8);
    push(&mut pipeline, 1..=3, t0);
    assert_eq!(sent(&mut pipeline, t0), Some((1, vec![1, 2, 3])));
    pipeline.disconnected();
    assert!(pipeline.connected(PublishLimits { events_max: 2, ..limits(8, 4096) }).is_empty());
    assert_eq!(sent(&mut pipeline, t0), Some((2, vec![1, 2])));
    assert_eq!(sent(&mut pipeline, t0), None);
    pipeline.flush();
    assert_eq!(sent(&mut pipeline, t0), Some((3, vec![3])));
}

#[test]
fn no_more_batches_are_on_the_way_than_there_are_credits() {
    let t0 = Instant::now();
    let mut pipeline = connected(2);
    push(&mut pipeline, 1..=12, t0);
    assert_eq!(
        [(); 3].map(|()| sent(&mut pipeline, t0).map(|(sequence, _)| sequence)),
        [Some(1), Some(2), None]
    );
    assert_eq!(pipeline.next_timeout(), None);
    // Answers come in any order.
    pipeline.acknowledge(ack(2, 3, &[]), t0).unwrap();
    assert_eq!(pipeline.answered(), 0);
    assert_eq!([(); 2].map(|()| sent(&mut pipeline, t0).map(|(sequence, _)| sequence)), [Some(3), None]);
    pipeline.acknowledge(ack(1, 3, &[]), t0).unwrap();
    assert_eq!(pipeline.answered(), 6);
}

#[test]
fn what_a_lost_connection_left_unanswered_goes_again_as_it_was() {
    let t0 = Instant::now();
    let mut pipeline = connected(8);
    push(&mut pipeline, 1..=6, t0);
    let batches = [(); 2].map(|()| sent(&mut pipeline, t0));
    assert_eq!(pipeline.disconnected(), 2);
    assert_eq!((sent(&mut pipeline, t0), pipeline.next_timeout()), (None, None));
    push(&mut pipeline, 7..=9, t0);
    pipeline.connected(limits(2, 4096));
    assert_eq!([(); 3].map(|()| sent(&mut pipeline, t0)), [batches[0].clone(), batches[1].clone(), None]);
    pipeline.acknowledge(ack(1, 0, &[(0, false), (1, false), (2, false)]), t0).unwrap();
    assert_eq!(sent(&mut pipeline, t0), Some((3, vec![7, 8, 9])));
}

#[test]
fn a_batch_that_a_new_server_finds_too_large_gets_new_numbers() {
    let t0 = Instant::now();
    let mut pipeline = pipeline();
    pipeline.connected(limits(8, 4096));
    for name in 1..=3 {
        pipeline.push(&event(name, if name == 2 { 1500 } else { 700 }).encode_to_vec(), name, t0).unwrap();
    }
    assert_eq!(sent(&mut pipeline, t0), Some((1, vec![1, 2, 3])));
    pipeline.disconnected();
    let rejected = pipeline.connected(limits(8, 1024));
    assert_eq!(
        rejected.iter().map(|rejection| (rejection.tag, &*rejection.code)).collect::<Vec<_>>(),
        [(2, "EVENT_TOO_LARGE")]
    );
    pipeline.flush();
    assert_eq!([(); 3].map(|()| sent(&mut pipeline, t0)), [Some((2, vec![1])), Some((3, vec![3])), None]);
    assert_eq!(
        pipeline.progress(),
        Progress { published: 3, rejected: 1, unanswered: 2, ..Progress::default() }
    );
}

#[test]
fn only_what_is_worth_it_goes_again_with_a_new_number_and_in_order() {
    let t0 = Instant::now();
    let mut pipeline = connected(8);
    push(&mut pipeline, 1..=7, t0);
    let _ = [(); 2].map(|()| sent(&mut pipeline, t0));
    let answer = pipeline.acknowledge(ack(2, 1, &[(1, true), (2, true)]), t0).unwrap();
    let Some(PublishEvent::Retrying { events: 2, retry_in, .. }) = answer.retrying else {
        panic!("{answer:?}")
    };
    assert!(retry_in <= Duration::from_millis(100));
    let answer = pipeline.acknowledge(ack(1, 1, &[(0, true), (2, false)]), t0).unwrap();
    assert_eq!(answer.rejections.iter().map(|rejection| rejection.tag).collect::<Vec<_>>(), [3]);
    let again = pipeline.next_timeout().unwrap();
    assert!(again > t0 && again <= t0 + RETRY_MAX);
    assert_eq!(sent(&mut pipeline, again - Duration::from_nanos(1)), None);
    assert_eq!(sent(&mut pipeline, again), Some((3, vec![1, 5, 6])));
    pipeline.acknowledge(ack(3, 3, &[]), again).unwrap();
    assert_eq!((pipeline.answered(), pipeline.is_empty()), (6, false));
    let expected =
        Progress { published: 7, accepted: 5, rejected: 1, retried: 3, unanswered: 1, duplicates: 0 };
    assert_eq!(pipeline.progress(), expected);
}

#[test]
fn waits_for_a_retry_grow_until_one_succeeds() {
    let t0 = Instant::now();
    let mut pipeline = connected(1);
    push(&mut pipeline, 1..=3, t0);
    let (mut now, mut longest) = (t0, Duration::ZERO);
    for sequence in 1..=30 {
        assert!(sent(&mut pipeline, now).is_some());
        pipeline.acknowledge(ack(sequence, 0, &[(0, true), (1, true), (2, true)]), now).unwrap();
        let wait = pipeline.next_timeout().unwrap().saturating_duration_since(now);
        (now, longest) = (now + wait, longest.max(wait));
    }
    assert!(longest > Duration::from_millis(500) && longest <= RETRY_MAX, "{longest:?}");
}

#[test]
fn a_throttle_holds_up_everything() {
    let t0 = Instant::now();
    let mut pipeline = connected(8);
    push(&mut pipeline, 1..=6, t0);
    sent(&mut pipeline, t0);
    pipeline.acknowledge(PublishAck { throttle_ms: 700, ..ack(1, 3, &[]) }, t0).unwrap();
    let over = t0 + Duration::from_millis(700);
    assert_eq!(
        (sent(&mut pipeline, over - Duration::from_nanos(1)), pipeline.next_timeout()),
        (None, Some(over))
    );
    assert!(sent(&mut pipeline, over).is_some());
}

#[test]
fn a_full_queue_takes_no_more_and_doesn_t_linger() {
    let t0 = Instant::now();
    let mut pipeline = pipeline_of(BATCH, QueueLimits { events: 4, bytes: 1 << 20 });
    pipeline.connected(limits(8, 4096));
    push(&mut pipeline, 1..=4, t0);
    let encoded = event(5, 5).encode_to_vec();
    assert!(matches!(pipeline.push(&encoded, 5, t0), Err(PublishError::Full { events: 4, .. })));
    assert_eq!(sent(&mut pipeline, t0), Some((1, vec![1, 2, 3])));
    assert_eq!(sent(&mut pipeline, t0), Some((2, vec![4])));
    pipeline.acknowledge(ack(1, 3, &[]), t0).unwrap();
    push(&mut pipeline, 5..=7, t0);
    assert!(pipeline.push(&encoded, 8, t0).is_err());

    let cost = ITEM_OVERHEAD + encoded.len();
    let mut pipeline = pipeline_of(BATCH, QueueLimits { events: 100, bytes: 2 * cost });
    push(&mut pipeline, 1..=2, t0);
    assert!(
        matches!(pipeline.push(&encoded, 3, t0), Err(PublishError::Full { events: 2, bytes }) if bytes == 2 * cost)
    );
}

#[test]
fn a_flush_and_a_close_don_t_linger() {
    let t0 = Instant::now();
    let mut pipeline = connected(8);
    push(&mut pipeline, 1..=2, t0);
    assert_eq!(sent(&mut pipeline, t0), None);
    assert_eq!(pipeline.flush(), 2);
    assert_eq!(sent(&mut pipeline, t0), Some((1, vec![1, 2])));
    push(&mut pipeline, [3], t0);
    assert_eq!(sent(&mut pipeline, t0), None);
    pipeline.close();
    assert!(matches!(pipeline.push(b"", 0, t0), Err(PublishError::Closed)));
    assert_eq!(sent(&mut pipeline, t0), Some((2, vec![3])));
    pipeline.acknowledge(ack(1, 2, &[]), t0).unwrap();
    let left = pipeline.take_unanswered();
    assert_eq!(left, [Unanswered { tag: 3, event: event(3, 5), was_sent: true }]);
    assert!(pipeline.is_empty());
}

#[test]
fn who_is_to_leave_sends_no_more_but_takes_answers() {
    let t0 = Instant::now();
    let mut pipeline = connected(8);
    push(&mut pipeline, 1..=6, t0);
    sent(&mut pipeline, t0);
    pipeline.leave();
    assert_eq!((sent(&mut pipeline, t0), pipeline.is_idle()), (None, false));
    pipeline.acknowledge(ack(1, 3, &[]), t0).unwrap();
    assert!(pipeline.is_idle());
    pipeline.disconnected();
    pipeline.connected(limits(8, 4096));
    assert!(sent(&mut pipeline, t0).is_some());
}

#[test]
fn answers_that_fit_no_batch_are_refused_and_change_nothing() {
    let t0 = Instant::now();
    let mut pipeline = connected(1);
    push(&mut pipeline, 1..=6, t0);
    sent(&mut pipeline, t0);
    let unknown = |sequence| BadMessage::UnknownBatch { sequence };
    let rejections = BadMessage::Rejections { sequence: 1 };
    let mut check = |ack: PublishAck, expected: &BadMessage| {
        assert_eq!(pipeline.acknowledge(ack, t0).unwrap_err(), *expected);
    };
    check(ack(2, 3, &[]), &unknown(2));
    check(PublishAck { producer_id: vec![8; 16], ..ack(1, 3, &[]) }, &unknown(1));
    check(ack(1, 2, &[]), &rejections);
    check(ack(1, u32::MAX, &[(0, true), (1, true), (2, true)]), &rejections);
    check(ack(1, 1, &[(1, true), (0, true)]), &rejections);
    check(ack(1, 1, &[(1, true), (1, true)]), &rejections);
    check(ack(1, 2, &[(3, true)]), &rejections);
    pipeline.acknowledge(ack(1, 2, &[(2, true)]), t0).unwrap();
    assert_eq!(pipeline.acknowledge(ack(1, 3, &[]), t0).unwrap_err(), unknown(1));
}

#[derive(Clone, Debug)]
enum Step {
    Push {
        len: usize,
    },
    Send,
    /// One of the batches on the way; a verdict for each event: accepted, duplicate, rejected, retryable.
    Answer {
        which: usize,
        rejections: Vec<u8>,
        throttle_ms: u32,
    },
    Cut {
        credits: u32,
        payload_max: u32,
    },
    Wait {
        ms: u64,
    },
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_usize..600).prop_map(|len| Step::Push { len }),
        4 => Just(Step::Send),
        3 => (any::<usize>(), prop::collection::vec(0_u8..4, 8), prop_oneof![3 => Just(0), 1 => 0_u32..50])
            .prop_map(|(which, rejections, throttle_ms)| Step::Answer { which, rejections, throttle_ms }),
        1 => (1_u32..4, 1024_u32..3000).prop_map(|(credits, payload_max)| Step::Cut { credits, payload_max }),
        2 => (0_u64..3000).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 0..200)
}

/// A pipeline and what its server may find.
struct Model {
    pipeline: Pipeline,
    now: Instant,
    credits: u32,
    payload_max: u32,
    pushed: u64,
    /// On the way over the connection that there is.
    on_the_way: Vec<(u64, Vec<u64>)>,
    /// Meaning of each number.
    numbers: BTreeMap<u64, Vec<u64>>,
    /// Events with a final answer.
    answered: BTreeSet<u64>,
    answered_up_to: u64,
}

impl Model {
    fn new() -> Self {
        let batch = BatchLimits { events: 4, bytes: 2000, linger: Duration::from_secs(2) };
        let mut pipeline = pipeline_of(batch, QueueLimits { events: 12, bytes: 5000 });
        pipeline.connected(limits(2, 2000));
        Self {
            pipeline,
            now: Instant::now(),
            credits: 2,
            payload_max: 2000,
            pushed: 0,
            on_the_way: Vec::new(),
            numbers: BTreeMap::new(),
            answered: BTreeSet::new(),
            answered_up_to: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Push { len } => self.push(len),
            Step::Send => while self.send() {},
            Step::Answer { which, rejections, throttle_ms } => self.answer(which, &rejections, throttle_ms),
            Step::Cut { credits, payload_max } => {
                assert_eq!(self.pipeline.disconnected(), self.on_the_way.len());
                self.on_the_way.clear();
                (self.credits, self.payload_max) = (credits, payload_max);
                for rejection in self.pipeline.connected(limits(credits, payload_max)) {
                    assert!(self.answered.insert(rejection.tag));
                }
            }
            Step::Wait { ms } => self.now += Duration::from_millis(ms),
            Step::Flush => drop(self.pipeline.flush()),
        }
        self.check();
    }

    fn push(&mut self, len: usize) {
        let name = self.pushed + 1;
        match self.pipeline.push(&event(name, len).encode_to_vec(), name, self.now) {
            Ok(_) => self.pushed = name,
            Err(PublishError::Full { .. }) => {
                assert!(self.pipeline.held.events == 12 || self.pipeline.held.bytes + len + 100 > 5000);
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn send(&mut self) -> bool {
        let mut payload = Vec::new();
        if !self.pipeline.poll_publish(self.now, &mut payload) {
            let later = self.pipeline.next_timeout().is_none_or(|timeout| timeout > self.now);
            assert!(later, "a timeout that has passed has nothing to send");
            return false;
        }
        assert!(payload.len() <= self.payload_max.min(2000) as usize);
        let publish = Publish::decode(&payload[..]).unwrap();
        let names: Vec<u64> = publish.events.iter().map(|event| event.timestamp).collect();
        assert!(!names.is_empty() && names.is_sorted() && names.len() <= 4);
        assert!(names.iter().all(|name| !self.answered.contains(name)));
        let first = self.numbers.entry(publish.sequence).or_insert_with(|| names.clone());
        assert_eq!(*first, names, "a number stands for the same events for ever");
        let elsewhere =
            self.on_the_way.iter().any(|(_, others)| names.iter().any(|name| others.contains(name)));
        assert!(!elsewhere, "an event is on the way once");
        assert!(self.on_the_way.last().is_none_or(|(last, _)| *last < publish.sequence));
        self.on_the_way.push((publish.sequence, names));
        assert!(self.on_the_way.len() <= self.credits as usize);
        true
    }

    fn answer(&mut self, which: usize, rejections: &[u8], throttle_ms: u32) {
        if self.on_the_way.is_empty() {
            return;
        }
        let (sequence, names) = self.on_the_way.remove(which % self.on_the_way.len());
        let producer_id = self.pipeline.producer.id.to_vec();
        let mut answer = PublishAck { throttle_ms, producer_id, ..ack(sequence, 0, &[]) };
        for (index, (name, verdict)) in (0..).zip(names.iter().zip(rejections)) {
            match verdict {
                0 => answer.accepted += 1,
                1 => answer.duplicates += 1,
                _ => {
                    answer.rejected.push(Rejected { index, retryable: *verdict == 3, ..Rejected::default() });
                }
            }
            if *verdict != 3 {
                assert!(self.answered.insert(*name), "one final answer for each event");
            }
        }
        let answered = self.pipeline.acknowledge(answer, self.now).unwrap();
        let rejected =
            names.iter().zip(rejections).filter(|(_, verdict)| **verdict == 2).map(|(name, _)| *name);
        assert!(answered.rejections.iter().map(|rejection| rejection.tag).eq(rejected));
    }

    fn check(&mut self) {
        let progress = self.pipeline.progress();
        assert_eq!(progress.published, self.pushed);
        assert_eq!(progress.unanswered, self.pushed - self.answered.len() as u64);
        assert_eq!(progress.accepted + progress.duplicates + progress.rejected, self.answered.len() as u64);
        let held: usize = self.pipeline.held.bytes;
        assert!(held <= 5000 && self.pipeline.held.events <= 12);
        let up_to = self.pipeline.answered();
        let first_open = (1..=self.pushed).find(|name| !self.answered.contains(name));
        assert_eq!(up_to, first_open.map_or(self.pushed, |first| first - 1));
        assert!(up_to >= self.answered_up_to);
        self.answered_up_to = up_to;
    }

    /// From here on the server takes everything.
    fn drain(&mut self) {
        self.take(Step::Cut { credits: 1, payload_max: 2000 });
        self.pipeline.close();
        for _ in 0..10_000 {
            if self.pipeline.is_empty() {
                break;
            }
            self.take(Step::Send);
            self.take(Step::Answer { which: 0, rejections: vec![0; 8], throttle_ms: 0 });
            if let Some(timeout) = self.pipeline.next_timeout() {
                self.now = self.now.max(timeout);
            }
        }
        assert_eq!(self.answered.len() as u64, self.pushed);
    }
}

#[test]
fn a_disk_queue_stays_within_its_bound_while_events_go_again_and_again() {
    const BYTES_MAX: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let (disk, restored) = DiskQueue::open(dir.path(), BYTES_MAX).unwrap();
    let mut now = Instant::now();
    let mut pipeline = connected(100);
    pipeline.producer = restored.producer;
    pipeline.restore(disk, restored.content, now);
    let full = (1..1000).find(|name| pipeline.push(&event(*name, 50).encode_to_vec(), *name, now).is_err());
    let events = full.unwrap() - 1;
    assert!((60..=100).contains(&events), "about half of the file is for events, {events} of some 120 bytes");
    let mut length_max = 0;
    for _ in 0..200 {
        while let Some((sequence, names)) = sent(&mut pipeline, now) {
            let again: Vec<_> = (0..names.len() as u32).map(|index| (index, true)).collect();
            let answer =
                PublishAck { producer_id: restored.producer.id.to_vec(), ..ack(sequence, 0, &again) };
            pipeline.acknowledge(answer, now).unwrap();
            length_max = length_max.max(std::fs::metadata(dir.path().join("queue")).unwrap().len());
        }
        now += 2 * RETRY_MAX;
    }
    assert!(length_max <= BYTES_MAX, "the file had {length_max} bytes");
    drop(pipeline);
    let (_, restored) = DiskQueue::open(dir.path(), BYTES_MAX).unwrap();
    assert_eq!(restored.content.events.len() as u64, events);
}

proptest! {
    #[test]
    fn every_event_gets_one_final_answer_and_no_number_is_used_twice(steps in steps()) {
        let mut model = Model::new();
        steps.into_iter().for_each(|step| model.take(step));
        model.drain();
    }

    #[test]
    fn a_disk_queue_holds_what_has_no_answer(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        let (disk, restored) = DiskQueue::open(dir.path(), 100_000).unwrap();
        model.pipeline.producer.id = restored.producer.id;
        model.pipeline.restore(disk, restored.content, model.now);
        steps.into_iter().for_each(|step| model.take(step));
        let next_sequence = model.pipeline.producer.next_sequence;
        let open: Vec<u64> = (1..=model.pushed).filter(|name| !model.answered.contains(name)).collect();
        drop(model.pipeline);

        let (disk, restored) = DiskQueue::open(dir.path(), 100_000).unwrap();
        prop_assert!(restored.producer.next_sequence > next_sequence);
        let mut pipeline = pipeline();
        pipeline.producer = restored.producer;
        pipeline.restore(disk, restored.content, model.now);
        pipeline.connected(limits(100, 4096));
        let mut resent = Vec::new();
        while let Some((sequence, names)) = sent(&mut pipeline, model.now) {
            let expected = model.numbers.get(&sequence);
            prop_assert!(expected.is_none_or(|expected| *expected == names), "{} {:?}", sequence, names);
            prop_assert!(expected.is_some() || sequence >= restored.producer.next_sequence);
            resent.extend(expected.is_some().then_some(sequence));
        }
        prop_assert!(model.on_the_way.iter().all(|(sequence, _)| resent.contains(sequence)));
        let left = pipeline.take_unanswered();
        prop_assert!(left.iter().map(|left| left.event.timestamp).eq(open));
    }

    #[test]
    fn what_has_no_answer_is_given_back_in_order(steps in steps()) {
        let mut model = Model::new();
        steps.into_iter().for_each(|step| model.take(step));
        let left = model.pipeline.take_unanswered();
        let open: Vec<u64> = (1..=model.pushed).filter(|name| !model.answered.contains(name)).collect();
        prop_assert!(left.iter().map(|left| left.tag).eq(open));
        prop_assert!(left.iter().all(|left| left.event.timestamp == left.tag));
        let on_the_way = |tag| model.on_the_way.iter().any(|(_, names)| names.contains(&tag));
        prop_assert!(left.iter().all(|left| left.was_sent || !on_the_way(left.tag)));
        prop_assert!(model.pipeline.is_empty());
    }
}
