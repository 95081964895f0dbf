//! `tickstream user-secret`: a new user's secret, and its entry for the file of users.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::num::NonZeroU32;

use tickstream_server::config::users::{self, Role};
use tickstream_server::config::{Access, User};
use tickstream_service::text::one_line;

/// Bytes of a secret before they are written in hexadecimal: 256 bits.
const SECRET_BYTES: usize = 32;

/// Arguments of `user-secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSecretArgs {
    /// The user's name.
    pub name: String,
    /// Roles.
    pub roles: Vec<Role>,
    /// Connections on each shard.
    pub connections_max: Option<NonZeroU32>,
    /// Events a second on each shard.
    pub events_per_second_max: Option<NonZeroU32>,
}

/// Reasons for which there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum UserSecretError {
    /// No name.
    #[error("a user's name has 1 to 255 bytes, none of them a control character")]
    Name,
    /// No randomness.
    #[error("can't read /dev/urandom: {0}")]
    Random(io::Error),
    /// No output.
    #[error("can't write the entry: {0}")]
    Output(io::Error),
    /// The secret can't be shown.
    #[error("can't write the secret to standard error: {0}; the entry is of no use, take it out again")]
    Secret(io::Error),
}

/// Writes the entry to standard output, and the secret to standard error: the one goes into the file, the other to the
/// user.
///
/// # Errors
/// See [`UserSecretError`].
pub fn run(args: &UserSecretArgs) -> Result<(), UserSecretError> {
    if !users::is_name(&args.name) {
        return Err(UserSecretError::Name);
    }
    let secret = secret().map_err(UserSecretError::Random)?;
    let user = User {
        name: args.name.as_str().into(),
        secret_sha256: User::hash(&secret),
        access: Access {
            subscribe: args.roles.contains(&Role::Subscribe),
            publish: args.roles.contains(&Role::Publish),
            connections: args.connections_max,
            events_per_second: args.events_per_second_max,
        },
    };
    let mut out = io::stdout();
    // Behind other entries there is a line between them.
    let gap = if out.is_terminal() { "" } else { "\n" };
    let entry = users::entry(&user);
    write!(out, "{gap}{entry}").and_then(|()| out.flush()).map_err(UserSecretError::Output)?;
    let name = one_line(&args.name);
    let mut err = io::stderr();
    writeln!(err, "The secret of {name}, which is shown only now: {secret}")
        .map_err(UserSecretError::Secret)?;
    let hint = "Add the entry to the server's users_file, and run `tickstream reload`. The client takes the name and the \
                secret as STREAM_USER and STREAM_PASS.";
    writeln!(err, "{hint}").map_err(UserSecretError::Secret)
}

fn secret() -> io::Result<String> {
    let mut random = [0; SECRET_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
