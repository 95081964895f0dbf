//! Traces by OTLP: the lives of some connections, and slow passes of shards' loops.
//!
//! [`Tracer`] is a shard's side: it hands plain data to a queue of bounded length, and never waits or wakes anybody.
//! `span` makes spans of it on the exporter's thread, which is `tickstream-service`'s.
//!
//! Without tracing there is no tracer, and a shard pays for looking at an `Option`.

mod span;

use tickstream_engine::{Now, Report, Shard};
use tickstream_service::otlp::{Service, Spans};

use crate::config::Otlp;
use crate::ring;

/// Exports what the shards trace.
pub type Exporter = tickstream_service::otlp::Exporter<Traced>;

/// An exporter for one process.
pub fn exporter(settings: &Otlp) -> Exporter {
    Exporter::new(
        settings.endpoint.clone(),
        Service { name: "tickstream", version: env!("CARGO_PKG_VERSION") },
    )
}

/// The side of a shard.
pub fn tracer(exporter: &Exporter, settings: &Otlp, shard: usize) -> Tracer {
    Tracer {
        shard,
        spans: exporter.spans(),
        sample_one_in: u64::from(settings.sample_one_in.get()),
        slow_pass_ns: settings.slow_pass.map(|slow| slow.as_nanos() as u64),
    }
}

/// A shard's side: takes what is worth a span.
#[derive(Debug)]
pub struct Tracer {
    shard: usize,
    spans: Spans<Traced>,
    sample_one_in: u64,
    slow_pass_ns: Option<u64>,
}

/// Work that one pass of a shard's loop did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Completions that it took from the socket ring.
    pub completions: u32,
    /// Actions of the engine that it carried out.
    pub actions: u32,
    /// Steps of TLS handshakes.
    pub handshakes: u32,
}

/// Events of which spans are made.
#[derive(Debug)]
pub enum Traced {
    /// A connection that ended.
    Connection {
        /// Its shard.
        shard: usize,
        /// Its end.
        report: Report,
        /// Bytes that its socket took, where that is still known.
        bytes_sent: Option<u64>,
        /// Time of the end, Unix nanoseconds.
        ended_unix_ns: u64,
    },
    /// A slow pass of a shard's loop.
    Pass {
        /// Its shard.
        shard: usize,
        /// Time of the begin, Unix nanoseconds.
        began_unix_ns: u64,
        /// Its length, nanoseconds.
        took_ns: u64,
        /// Its work.
        work: Work,
    },
}

impl Tracer {
    /// Takes the end of a connection, if it is one of those that are traced. Call it before the connection's `Close`.
    pub fn ended(&self, report: &Report, engine: &Shard, now: Now) {
        if !is_sampled(report.number, self.sample_one_in) {
            return;
        }
        let connection = engine.connection(report.conn.slot).filter(|it| it.number == report.number);
        self.spans.hand_over(Traced::Connection {
            shard: self.shard,
            report: report.clone(),
            bytes_sent: connection.map(|connection| connection.bytes_sent),
            ended_unix_ns: now.unix_ns,
        });
    }

    /// Takes a pass that began then and ends now, if it was slow.
    pub fn passed(&self, began: Now, work: Work) {
        let Some(slow_ns) = self.slow_pass_ns else { return };
        let took_ns = ring::now().mono_ns.saturating_sub(began.mono_ns);
        if took_ns >= slow_ns {
            self.spans.hand_over(Traced::Pass {
                shard: self.shard,
                began_unix_ns: began.unix_ns,
                took_ns,
                work,
            });
        }
    }
}

/// True if a connection is one in `one_in`. Its number is scattered first (by 2^64 over the golden ratio), so that
/// clients which come in turns, such as probes among subscribers, aren't traced all or none.
fn is_sampled(number: u64, one_in: u64) -> bool {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).is_multiple_of(one_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(slow_pass_ns: Option<u64>) -> (Tracer, std::sync::mpsc::Receiver<Traced>) {
        let (spans, traced) = Spans::bounded(2);
        (Tracer { shard: 3, spans, sample_one_in: 1, slow_pass_ns }, traced)
    }

    #[test]
    fn one_in_so_many_connections_is_sampled_whatever_their_order() {
        for (one_in, stride) in [(1, 1), (10, 1), (100, 1), (100, 100), (100, 2)] {
            let count = (1..=100_000).filter(|index| is_sampled(index * stride, one_in)).count() as u64;
            let expected = 100_000 / one_in;
            assert!(count.abs_diff(expected) <= expected / 10, "{count} of 100000 at {one_in}, {stride}");
        }
    }

    #[test]
    fn only_slow_passes_are_handed_over() {
        let ago = |ns| Now { mono_ns: ring::now().mono_ns - ns, unix_ns: 7 };
        let work = Work { completions: 1, actions: 2, handshakes: 3 };
        let (off, traced) = tracer(None);
        off.passed(ago(1_000_000_000), work);
        assert!(traced.try_recv().is_err());
        let (on, traced) = tracer(Some(3_600_000_000_000));
        on.passed(ago(0), work);
        assert!(traced.try_recv().is_err());
        let (on, traced) = tracer(Some(1_000_000));
        on.passed(ago(2_000_000), work);
        let Ok(Traced::Pass { shard: 3, began_unix_ns: 7, took_ns, work: did }) = traced.try_recv() else {
            panic!("no slow pass")
        };
        assert!(took_ns >= 2_000_000 && did == work);
    }
}
