//! Video: playback, streaming, CDNs, players, DRM. A view is one viewing of one video, by its view_id; it counts where it began.

use super::item::{Behind, Chart, Compute, Gaps, Headline, Item, Team, Trend, as_asked};
use crate::filters::CLIENT;

/// The team's page.
pub const TEAM: Team =
    Team { name: "video", title: "Video", items: [PLAYBACK, STREAMING, CDNS, PLAYERS, DRM] };

const EMPTY: &str = "There are no views in this period. Video events need a view_id; start has startup_time, end has watched_time and stalled_time.";

const PLAYBACK: Item = Item {
    name: "playback",
    title: "Playback quality",
    question: "Do videos start quickly and play without stalls?",
    definition: "Mean startup score 8 / (8 + seconds) · 100 of views that started (Mux); rebuffering: stalled / (watched + stalled); stalls an hour \
                 watched; views that a fatal error ended.",
    days: 1.0,
    kinds: &["video"],
    empty: EMPTY,
    filters: CLIENT,
    sql: "SELECT platform, count(*) AS views, avg(8.0 / (8.0 + startup_ms / 1000.0) * 100.0) AS \"startup score\", \
          100.0 * sum(stalled_ms) / nullif(sum(watched_ms + stalled_ms), 0) AS \"rebuffering, %\", \
          sum(stalls) / nullif(sum(watched_ms) / 3600000.0, 0) AS \"stalls / hour\", \
          100.0 * count(*) FILTER (WHERE has_failed) / count(*) AS \"failed, %\" FROM {views} GROUP BY platform ORDER BY views DESC, platform",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("views"),
    chart: Chart::Bars("platform", "startup score"),
    behind: Behind {
        what: "events of these views",
        rows: "{viewed} WHERE TRUE",
        named: &[("platform", "platform"), ("series", "{value} = 'score'")],
    },
    trend: Some(Trend {
        title: "Startup score",
        sql: "SELECT {bucket} AS bucket, 'score' AS series, avg(8.0 / (8.0 + startup_ms / 1000.0) * 100.0) AS value FROM {views} \
              GROUP BY 1 ORDER BY 1",
        gaps: Gaps::Open,
        behind: None,
    }),
};

const STREAMING: Item = Item {
    name: "streaming",
    title: "Streaming performance",
    question: "Which titles start slowly or stall?",
    definition: "By title: startup time p50 and p95, stalls an hour, bitrate weighted by the time watched, and views that failed before their start.",
    days: 1.0,
    kinds: &["video"],
    empty: EMPTY,
    filters: CLIENT,
    sql: "SELECT coalesce(title, '(no title)') AS title, count(*) AS views, quantile_sketch(startup_ms, 0.5) AS \"startup p50, ms\", \
          quantile_sketch(startup_ms, 0.95) AS \"startup p95, ms\", sum(stalls) / nullif(sum(watched_ms) / 3600000.0, 0) AS \"stalls / hour\", \
          sum(bitrate * watched_ms) / nullif(sum(CASE WHEN bitrate IS NOT NULL THEN watched_ms END), 0) / 1000.0 AS \"bitrate, kbit/s\", \
          100.0 * count(*) FILTER (WHERE has_failed AND NOT has_started) / count(*) AS \"failed before start, %\" \
          FROM {views} GROUP BY 1 ORDER BY views DESC, title LIMIT 200",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("views"),
    chart: Chart::Bars("title", "startup p95, ms"),
    behind: Behind {
        what: "events of these views",
        rows: "{viewed} WHERE TRUE",
        named: &[("title", "coalesce(title, '(no title)')"), ("series", "{value} = 'rebuffering'")],
    },
    trend: Some(Trend {
        title: "Rebuffering, %",
        sql: "SELECT {bucket} AS bucket, 'rebuffering' AS series, 100.0 * sum(stalled_ms) / nullif(sum(watched_ms + stalled_ms), 0) AS value \
              FROM {views} GROUP BY 1 ORDER BY 1",
        gaps: Gaps::Open,
        behind: None,
    }),
};

const CDNS: Item = Item {
    name: "cdns",
    title: "CDN comparison",
    question: "Which CDN is slow?",
    definition: "By CDN: views, mean startup time with the interval of 95 % (normal), rebuffering and failed views.",
    days: 1.0,
    kinds: &["video"],
    empty: "No view of this period names a CDN. Set context.cdn_provider of video events.",
    filters: CLIENT,
    sql: "SELECT cdn, count(*) AS views, avg(startup_ms) AS \"startup, ms\", \
          avg(startup_ms) - 1.96 * stddev(startup_ms) / sqrt(count(startup_ms)) AS \"from, ms\", \
          avg(startup_ms) + 1.96 * stddev(startup_ms) / sqrt(count(startup_ms)) AS \"to, ms\", \
          100.0 * sum(stalled_ms) / nullif(sum(watched_ms + stalled_ms), 0) AS \"rebuffering, %\", \
          100.0 * count(*) FILTER (WHERE has_failed) / count(*) AS \"failed, %\" \
          FROM {views} WHERE cdn IS NOT NULL GROUP BY cdn ORDER BY 3 DESC",
    compute: Compute::Rows(as_asked),
    headline: Headline::Rows("CDNs"),
    chart: Chart::Bars("cdn", "startup, ms"),
    behind: Behind {
        what: "events of these views",
        rows: "{viewed} WHERE cdn IS NOT NULL",
        named: &[("cdn", "cdn"), ("series", "cdn")],
    },
    trend: Some(Trend {
        title: "Startup by CDN, ms",
        sql: "SELECT {bucket} AS bucket, cdn AS series, avg(startup_ms) AS value FROM {views} WHERE cdn IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2",
        gaps: Gaps::Open,
        behind: None,
    }),
};

const PLAYERS: Item = Item {
    name: "players",
    title: "Players",
    question: "Which player or version fails?",
    definition: "By player and version: views, startup score, rebuffering and failed views.",
    days: 7.0,
    kinds: &["video"],
    empty: "No view of this period names a player. Set player_type of video events.",
    filters: CLIENT,
    sql: "SELECT concat(player, ' ', coalesce(player_version, '')) AS player, count(*) AS views, \
          avg(8.0 / (8.0 + startup_ms / 1000.0) * 100.0) AS \"startup score\", \
          100.0 * sum(stalled_ms) / nullif(sum(watched_ms + stalled_ms), 0) AS \"rebuffering, %\", \
          100.0 * count(*) FILTER (WHERE has_failed) / count(*) AS \"failed, %\" \
          FROM {views} WHERE player IS NOT NULL GROUP BY 1 ORDER BY views DESC, player",
    compute: Compute::Rows(as_asked),
    headline: Headline::Rows("players"),
    chart: Chart::Bars("player", "failed, %"),
    behind: Behind {
        what: "events of these views",
        rows: "{viewed} WHERE player IS NOT NULL",
        named: &[("player", "concat(player, ' ', coalesce(player_version, ''))")],
    },
    trend: None,
};

const DRM: Item = Item {
    name: "drm",
    title: "DRM",
    question: "Do viewers get their licences, and how fast?",
    definition: "By DRM type: licences, p95 of the time to one, failed: DRM errors / (licences + DRM errors).",
    days: 7.0,
    kinds: &["video"],
    empty: "No view of this period has a DRM type. Set context.drm_type; send license events with license_time.",
    filters: CLIENT,
    sql: "SELECT drm_type AS drm, count(*) FILTER (WHERE video_event = 'license') AS licences, \
          quantile_sketch(license_time_ms, 0.95) AS \"p95, ms\", count(*) FILTER (WHERE error_source = 'drm') AS failed, \
          100.0 * count(*) FILTER (WHERE error_source = 'drm') \
          / nullif(count(*) FILTER (WHERE video_event = 'license' OR error_source = 'drm'), 0) AS \"failed, %\" \
          FROM video_analytics WHERE drm_type IS NOT NULL AND {where} GROUP BY drm_type ORDER BY licences DESC, drm",
    compute: Compute::Rows(as_asked),
    headline: Headline::Sum("licences"),
    chart: Chart::Bars("drm", "p95, ms"),
    behind: Behind {
        what: "licences and DRM errors",
        rows: "video_analytics WHERE drm_type IS NOT NULL AND (video_event = 'license' OR error_source = 'drm') AND {where}",
        named: &[("drm", "drm_type")],
    },
    trend: None,
};
