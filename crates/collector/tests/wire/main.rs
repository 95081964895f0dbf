//! The collector over sockets, between senders and a server that the tests play.

mod clients;
mod faults;
mod grpc;
mod http2;
mod own;
mod server;
mod sources;
mod streams;
