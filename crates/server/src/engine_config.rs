//! The server's settings as the engine has them.

use std::num::NonZeroU32;
use std::time::Duration;

use tickstream_engine as engine;
use tickstream_wire::messages::Mode;

use crate::config::{Config, Events};
use crate::shard;

/// The engine's settings, for the shard 0; `connections` for each.
///
/// # Errors
/// See [`engine::ConfigError`].
pub fn engine_config(
    config: &Config,
    connections: NonZeroU32,
) -> Result<engine::Config, engine::ConfigError> {
    let Config { settings, credentials, users, .. } = config;
    let pair = match credentials {
        Some(credentials) => engine::Credentials::new(&credentials.user, &credentials.pass)?,
        None => engine::Credentials::default(),
    };
    Ok(engine::Config {
        shard: 0,
        credentials: pair.with_users(users.clone()),
        second: engine::Rate::new(Mode::Second, settings.ticks_per_second.get())?,
        minute: engine::Rate::new(Mode::Minute, settings.ticks_per_minute.get())?,
        phase: settings.phase,
        batch_window_ms: millis(settings.batch_window_ms),
        heartbeat_interval_ms: millis(settings.heartbeat_interval),
        heartbeat_timeout_ms: millis(settings.heartbeat_timeout),
        proxy_protocol: settings.proxy_protocol,
        proxy_trusted: settings.proxy_trusted.clone(),
        seed: seed(),
        ingest: config.events.as_ref().map(ingest_config),
        limits: engine::Limits {
            connections: connections.get(),
            connections_per_address: settings.max_connections_per_ip,
            unauthenticated: settings.unauthenticated_max.get(),
            unauthenticated_per_address: settings.unauthenticated_per_ip_max,
            connections_per_second: settings.connections_per_second_max,
            auth_failures_per_minute: settings.auth_failures_per_minute_max,
            lag_ms: settings.overload_lag.map_or(0, millis),
            payload_bytes: settings.max_msg_size.get(),
            handshake_timeout_ms: millis(settings.handshake_timeout),
            auth_timeout_ms: millis(settings.auth_timeout),
            write_deadline_ms: millis(settings.write_deadline_ms),
            frames_per_second: settings.frames_per_second_max.get(),
            replay_window_ms: millis(settings.replay_window),
            replay_ticks: u64::from(settings.replay_ticks_max),
        },
    })
}

fn ingest_config(events: &Events) -> engine::IngestConfig {
    let defaults = engine::IngestConfig::new(&events.server_id, seed());
    engine::IngestConfig {
        credits: events.credits,
        publish_bytes: events.publish_bytes,
        record_bytes: shard::record_bytes_max(events),
        events_per_second: events.events_per_second,
        ahead_ms_max: events.ahead_max.as_millis() as u64,
        age_ms_max: events.age_max.as_millis() as u64,
        event_ids: events.event_ids,
        // docs/protocol.md: what may be sent as it is may be sent packed.
        unpacked_bytes: defaults.unpacked_bytes.max(events.publish_bytes),
        privacy: events.privacy.clone(),
        ..defaults
    }
}

/// A number that nobody can guess: std keys its hash tables with such.
fn seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8)
}

/// Whole milliseconds; every duration of [`Config`] is below 49 days.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TABLE;

    /// Settings of a server that collects events, and others in their place or beside them.
    const SETTINGS: [(&str, &str); 3] = [("stream_user", "u"), ("stream_pass", "p"), ("journal", "j")];

    #[test]
    fn a_packed_batch_may_be_as_long_as_one_that_is_not() {
        let check = |size: &str, expected| {
            let settings = SETTINGS.into_iter().chain([("publish_size_max", size)]);
            let config = Config::from_values(settings).unwrap();
            let ingest = ingest_config(config.events.as_ref().unwrap());
            assert_eq!(ingest.unpacked_bytes, expected, "{size}");
        };
        check("512KiB", 1 << 20);
        check("4MiB", 4 << 20);
    }

    /// The engine takes over on a reload ([`engine::Config::reload`]) what the table of settings calls `live()`, no more and no
    /// less. Each setting is changed to the first of some values that makes another engine.
    #[test]
    fn a_reload_changes_those_of_the_engine_s_settings_that_are_live() {
        let others = "7 4096 11s 3h 3d 128KiB spread optional truncate 192.0.2.0/24 n7";
        let of = |key, value| {
            let settings = SETTINGS.into_iter().chain([("proxy_trusted", "10.0.0.0/8"), (key, value)]);
            let config = Config::from_values(settings).ok()?;
            let mut engine = engine_config(&config, NonZeroU32::new(1_000)?).ok()?;
            // Random, each time.
            engine.seed = 0;
            engine.ingest.as_mut()?.seed = 0;
            Some(engine)
        };
        let shown = |config: &engine::Config| format!("{config:?}");
        let before = of("stream_user", "u").unwrap();
        let mut changed = [0, 0];
        for setting in TABLE.settings() {
            let about = setting.about();
            let mut engines = others.split(' ').filter_map(|value| of(about.key, value));
            let Some(new) = engines.find(|new| shown(new) != shown(&before)) else { continue };
            let mut used = before.clone();
            used.reload(&new);
            let expected = if about.live { &new } else { &before };
            assert_eq!(shown(&used), shown(expected), "{}: `.live()` is {}", about.key, about.live);
            changed[usize::from(about.live)] += 1;
        }
        assert_eq!(changed, [18, 11], "this test would find them");
    }
}
