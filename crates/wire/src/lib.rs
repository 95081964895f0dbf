//! tickstream's wire format, version 1: what a frame is, byte by byte, and the messages inside.
//!
//! `docs/protocol.md` is the normative text. This crate knows nothing of sessions, sockets or time; it turns
//! bytes into frames and messages into bytes:
//!
//! - [`frame`]: the header, sealing a payload into a frame, and what can be wrong with one;
//! - [`decoder`]: frames out of a byte stream that was cut anywhere;
//! - [`messages`]: the protobuf payloads, generated from `proto/`;
//! - [`ErrorCode`]: the closed list of codes in an ERROR frame.

#![forbid(unsafe_code)]

pub mod decoder;
mod error_code;
pub mod frame;
mod frame_type;
pub mod messages;

pub use decoder::Decoder;
pub use error_code::ErrorCode;
pub use frame::{Frame, FrameError, FrameType, PayloadMax};
