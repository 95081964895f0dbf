//! Event collection from the frame to the PUBLISH_ACK.

mod known;
mod limits;
mod session;
mod site;
mod stored;
mod users;
