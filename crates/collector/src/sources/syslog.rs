//! Syslog: RFC 5424 and RFC 3164, over UDP (RFC 5426) and TCP (RFC 6587, RFC 5425), and RELP.

mod framing;
mod message;
mod relp;

pub use framing::SyslogStream;
pub(crate) use message::event;
pub(super) use message::{LEVELS, SEVERITIES};
pub use relp::RelpStream;

use crate::{stream::DatagramDecoder, writer::EventWriter};

/// Syslog over UDP: a datagram is a message.
pub struct SyslogDatagrams;

impl DatagramDecoder for SyslogDatagrams {
    fn name(&self) -> &'static str {
        NAME
    }

    fn decode(&self, datagram: &[u8], writer: &mut EventWriter<'_>) {
        writer.event(message::event(datagram, writer.receive_time()));
    }
}

const NAME: &str = "syslog";
/// Largest message, bytes: RFC 5425 wants 8,192 at least.
const MESSAGE_BYTES_MAX: usize = 65_536;
