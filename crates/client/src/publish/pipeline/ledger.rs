//! Writing down what happens, where there is a disk queue.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Batch, Held, ITEM_OVERHEAD, Item, Pipeline};
use crate::publish::{
    disk::{Content, DiskQueue, Refusal},
    event::PublishError,
    packing::packed_len,
};

impl Pipeline {
    /// Goes on where the process before has ended: `content` is what `disk` holds.
    pub fn restore(&mut self, disk: DiskQueue, content: Content, now: Instant) {
        self.disk = Some(disk);
        let Content { mut events, batches } = content;
        self.last_number = events.last_key_value().map_or(0, |(number, _)| *number);
        self.held = Held {
            events: events.len(),
            bytes: events.values().map(|bytes| bytes.len() + ITEM_OVERHEAD).sum(),
        };
        self.totals.published = events.len() as u64;
        let item = |number, bytes| Item { number, tag: 0, bytes, since: now };
        for (sequence, numbers) in batches {
            let items = numbers.into_iter().filter_map(|number| Some(item(number, events.remove(&number)?)));
            let items: Vec<Item> = items.collect();
            self.batches.push_back(Batch { sequence, items, is_sent: false, was_sent: true });
        }
        self.waiting = events.into_iter().map(|(number, bytes)| item(number, bytes)).collect();
        self.waiting_bytes = self.waiting.iter().map(|item| packed_len(item.bytes.len())).sum();
    }

    pub(super) fn write_event(&mut self, number: u64, bytes: &[u8]) -> Result<(), PublishError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let mut written = disk.event(number, bytes);
        if let Err(Refusal::Rewrite) = written {
            self.rewrite().map_err(|error| PublishError::Disk(Arc::new(error)))?;
            written = self.disk.as_mut().map_or(Ok(()), |disk| disk.event(number, bytes));
        }
        written.map_err(|refusal| match refusal {
            Refusal::Rewrite | Refusal::Full => {
                self.flush();
                PublishError::Full { events: self.held.events, bytes: self.held.bytes }
            }
            Refusal::Disk(error) => PublishError::Disk(Arc::new(error)),
        })
    }

    pub(super) fn write_batch(&mut self, sequence: u64, items: &[Item]) {
        if let Some(disk) = &mut self.disk {
            disk.batch(sequence, &numbers(items));
        }
    }

    /// A batch is no more, and these of its events have a final answer.
    pub(super) fn write_answered(&mut self, sequence: u64, items: &[Item]) {
        if let Some(disk) = &mut self.disk {
            disk.answered(sequence, &numbers(items), items.iter().map(|item| item.bytes.len()));
        }
    }

    /// Keeps the file from growing; to be called when all is in its place.
    pub(super) fn tidy(&mut self) {
        if self.disk.as_ref().is_some_and(DiskQueue::wants_rewrite) {
            // The old file is good enough where there can't be a new one.
            self.rewrite().ok();
        }
    }

    fn rewrite(&mut self) -> std::io::Result<()> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let items = self.batches.iter().flat_map(|batch| &batch.items).chain(&self.waiting);
        let batches = self.batches.iter().map(|batch| (batch.sequence, numbers(&batch.items)));
        disk.rewrite(self.producer.next_sequence, items.map(|item| (item.number, &item.bytes[..])), batches)
    }
}

fn numbers(items: &[Item]) -> Vec<u64> {
    items.iter().map(|item| item.number).collect()
}
