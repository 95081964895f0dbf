//! Views of videos: a slow CDN, a player that fails, DRM.

use serde_json::{Value, json};

use super::plant::{DAYS, Plant};
use crate::sample::common::{SECOND, merge};

/// Views of a day, on each of [`DAYS`] - 1 days.
pub const VIEWS: u64 = 40;
/// Days with views.
pub const VIEW_DAYS: u64 = DAYS - 1;
/// CDN, startup time and time stalled of each of its views, milliseconds; the second is slow.
pub const CDNS: [(&str, u64, u64); 2] = [("north", 1_000, 0), ("south", 3_000, 30_000)];
/// Time watched of each view, milliseconds.
pub const WATCHED: u64 = 570_000;
/// One view in so many of the player `exoplayer 2.20` fails.
pub const FAILS_ONE_IN: u64 = 5;
/// Time to a licence, milliseconds.
pub const LICENCE: u64 = 300;
/// One licence in so many is refused.
pub const REFUSED_ONE_IN: u64 = 20;

/// Adds them.
pub fn plant(plant: &mut Plant) {
    for number in 0..VIEWS * VIEW_DAYS {
        let at = plant.days_ago(1 + number / VIEWS, 600 + number % VIEWS * 1_800);
        view(plant, number, at);
    }
}

/// True if a view is of the player that fails, and fails.
pub fn fails(number: u64) -> bool {
    is_new_player(number) && (number / 4).is_multiple_of(FAILS_ONE_IN)
}

fn is_new_player(number: u64) -> bool {
    number % 4 == 1
}

/// True if the licence of a view is refused.
pub fn is_refused(number: u64) -> bool {
    number.is_multiple_of(REFUSED_ONE_IN)
}

fn view(plant: &mut Plant, number: u64, at: u64) {
    let person = format!("viewer-{}", number % 200);
    let (cdn, startup, stalled) = CDNS[(number % 2) as usize];
    let (player, version) = match number % 4 {
        1 => ("exoplayer", "2.20"),
        3 => ("exoplayer", "2.19"),
        _ => ("hls.js", "1.5"),
    };
    let platform = if player == "hls.js" { "web" } else { "android" };
    let session = format!("watching-{number}");
    plant.visited(&person, at);
    let mut push = |after: u64, name: &str, more: Value| {
        let mut body = json!({"video_id": format!("film-{}", number % 6), "title": format!("Film {}", number % 6 + 1),
            "view_id": format!("view-{number}"), "player_type": player, "event_name": name,
            "context": {"cdn_provider": cdn, "player_version": version, "drm_type": "widevine"}});
        merge(&mut body, more);
        let base =
            json!({"session_id": session, "user_id": person, "app": {"name": "player", "version": "7.1.0"}});
        plant.push(at + after * SECOND, platform, "video", &format!("video_{name}"), body, base);
    };
    push(0, "play", json!({}));
    if is_refused(number) {
        push(
            1,
            "error",
            json!({"error": {"code": "6001", "message": "the licence was refused", "source": "drm"}}),
        );
    } else {
        push(1, "license", json!({"measurements": {"license_time": LICENCE}}));
    }
    push(4, "start", json!({"measurements": {"startup_time": startup, "bitrate": 4_000_000}}));
    if fails(number) {
        push(
            60,
            "error",
            json!({"error": {"code": "4003", "message": "the decoder failed", "source": "decoder", "is_fatal": true}}),
        );
    }
    push(
        600,
        "end",
        json!({"measurements": {"watched_time": WATCHED, "stalled_time": stalled,
        "stall_count": stalled / 10_000, "bitrate": 4_000_000}}),
    );
}
