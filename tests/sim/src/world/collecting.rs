//! The driver's part in event collection, with a virtual journal; and publishers that come back.

use tickstream_engine::{RecordId, SendOutcome, Shard};

use super::{Event, World, allocated};
use crate::client::Kind;
use crate::events::Ack;
use crate::journal::{Appended, Journal};
use crate::publisher::{Manner, Publisher};
use crate::ticks::{MS, SECOND};
use crate::wire;

impl World {
    /// Appends what the shard has, and tells it what is durable: once a pass, as
    /// crates/server/src/shard/journal_driver.rs does it.
    pub(super) fn collect(&mut self) {
        let Some(mut journal) = self.journal.take() else { return };
        if let Some(id) = journal.newly_durable() {
            say!(self, "the journal has all up to record {id}");
            self.trace.number(6 << 60 | id);
            self.call(|shard| shard.records_synced(RecordId(id)));
            self.model.synced(id);
            self.settled();
        }
        self.append_all(&mut journal);
        if let Some(takes) = journal.commit(&mut self.rng) {
            self.after(takes, Event::Commit);
        }
        let pressure = journal.pressure(&mut self.rng);
        self.call(|shard| shard.set_ingest_pressure(pressure));
        self.model.press(pressure);
        self.journal = Some(journal);
    }

    /// Some journals have something from before, of publishers that are still there.
    pub(super) fn restore(&mut self) {
        let Some(rules) = self.scenario.rules.events.clone() else { return };
        for _ in 0..self.rng.pick(&[0, 0, 1, 3]) {
            let kind = Kind::Publisher(self.rng.pick(&[Manner::Steady, Manner::Returning]));
            let mut publisher = self.publisher(kind).expect("events are collected");
            for publish in publisher.past(self.wall, &mut self.rng) {
                let (batch, now) = (publish.batch(), self.wall);
                let publishing = self.model.publishing.as_mut().expect("events are collected");
                if let Some(payload) = publishing.restore(batch, &rules, now) {
                    let restored = self.call(|shard| shard.restore(batch.producer, batch.sequence, &payload));
                    restored.expect("it is a StoredBatch");
                }
            }
            self.returning.push_back((kind, publisher));
            let pause = self.rng.below(5 * SECOND);
            self.after(pause, Event::Return);
        }
    }

    fn append_all(&mut self, journal: &mut Journal) {
        loop {
            if let Some((id, bytes)) = journal.waiting {
                match journal.append(id, bytes) {
                    Appended::Busy => return,
                    appended => self.appended(id, appended),
                }
                journal.waiting = None;
            }
            let before = allocated();
            let record = self.shard.poll_record();
            self.held += allocated() - before;
            let Some(record) = record else { break };
            let (id, bytes) = (record.id.0, record.payload.len());
            self.trace.number(7 << 60 | id);
            self.trace.bytes(record.payload);
            self.model.handed(&record);
            match journal.append(id, bytes) {
                Appended::Busy => {
                    say!(self, "record {id} waits for the journal");
                    journal.waiting = Some((id, bytes));
                    return;
                }
                appended => self.appended(id, appended),
            }
        }
        assert!(!self.model.has_records(), "the shard keeps a record to itself");
    }

    fn appended(&mut self, id: u64, appended: Appended) {
        say!(self, "record {id}: {appended:?}");
        if let Appended::Refused(fault) = appended {
            self.call(|shard| shard.record_refused(RecordId(id), fault));
            self.model.record_refused(id, fault);
            self.settled();
        }
    }

    /// Answers may have become due on any connection.
    fn settled(&mut self) {
        self.reports();
        for index in 0..self.clients.len() {
            self.model.check_reported(index);
        }
    }

    /// A commit is to end.
    pub(super) fn committed(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        if let Some(longer) = journal.committed(&mut self.rng) {
            self.after(longer, Event::Commit);
        }
    }

    /// The journal's disk is another.
    pub(super) fn change_disk(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let (mood, lasts) = journal.turn(&mut self.rng);
        say!(self, "the disk is {mood:?}");
        self.after(lasts, Event::Disk);
    }

    /// A send is answered: a publisher may have its PUBLISH_ACK.
    pub(super) fn hear(&mut self, index: usize) {
        let Some(publisher) = &mut self.clients[index].publisher else { return };
        let Some(underway) = &self.model.conns[index].underway else { return };
        let Some(SendOutcome::Sent(bytes)) = underway.answer else { return };
        if underway.kind == wire::PUBLISH_ACK && (underway.reported + bytes) as usize == underway.bytes.len()
        {
            let (_, payload) = wire::open(&underway.bytes).expect("it was looked at");
            publisher.hears(&Ack::read(payload).expect("it was looked at"), self.mono);
        }
    }

    /// The publisher that a connection begins with.
    pub(super) fn publisher(&mut self, kind: Kind) -> Option<Box<Publisher>> {
        let (Kind::Publisher(manner), Some(rules)) = (kind, &self.scenario.rules.events) else { return None };
        let payload_bytes = self.scenario.rules.payload_bytes;
        Some(Box::new(Publisher::new(manner, rules, payload_bytes, &mut self.rng)))
    }

    /// A connection is gone: its publisher comes back over another.
    pub(super) fn leave(&mut self, index: usize) {
        if let Some(mut publisher) = self.clients[index].publisher.take() {
            publisher.returns(&mut self.rng);
            self.returning.push_back((self.clients[index].kind, publisher));
            let pause = self.rng.pick(&[50 * MS, SECOND, 4 * SECOND]);
            self.after(pause, Event::Return);
        }
    }

    pub(super) fn come_back(&mut self) {
        let Some((kind, publisher)) = self.returning.pop_front() else { return };
        let tls = self.rng.one_in(self.scenario.tls_one_in);
        if let Err(publisher) = self.connect(kind, tls, Some(publisher))
            && let Some(publisher) = publisher
        {
            self.returning.push_back((kind, publisher));
            self.after(2 * SECOND, Event::Return);
        }
    }

    /// The model learns what a client made.
    pub(super) fn tell_made(&mut self, index: usize) {
        let made = std::mem::take(&mut self.clients[index].made);
        if let Some(publishing) = &mut self.model.publishing {
            made.into_iter().for_each(|publish| publishing.made(publish));
        }
    }

    /// True if events have had their share of this pass: ticks first.
    pub(super) fn pass_is_spent(&mut self) -> bool {
        let is_spent = self.call(|shard: &mut Shard| shard.ingest_is_spent());
        assert!(!is_spent || self.journal.is_some(), "events are taken that nobody collects");
        is_spent
    }
}
