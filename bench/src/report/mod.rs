//! The report: one self-contained page, light and dark, without scripts or anything from elsewhere.

mod chart;

use std::{
    fmt::Write,
    time::{Duration, UNIX_EPOCH},
};

use crate::{
    conditions::Conditions,
    figures::ms,
    report::chart::{Chart, Line, Scale},
    summary::{SecondSum, Summary},
};

/// Bars of the fan-out's profile, at most.
const FAN_OUT_BARS: u64 = 180;
/// The profile of the fan-out ends here; what comes later is in the percentiles.
const FAN_OUT_END: f64 = 0.9999;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2024;--dim:#667080;--grid:#e3e6ea;--good:#1a7f4b;--bad:#c03030;
--warn:#9a6200;--s0:#2f6fd0;--s1:#d9822b;--s2:#7a4fc0;--s3:#c03a5b}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e4e7ea;--dim:#8d97a3;--grid:#2b3036;--good:#4cc38a;
--bad:#f07070;--warn:#e0aa50;--s0:#6ca4f8;--s1:#f0a860;--s2:#b394f0;--s3:#f08aa4}}
body{margin:2rem auto;max-width:60rem;padding:0 1rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;margin:0}p.dim,figcaption span{color:var(--dim)}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .9rem .2rem 0;text-align:left;vertical-align:top}
th{font-weight:normal;color:var(--dim);white-space:nowrap}td{font-variant-numeric:tabular-nums}
code{overflow-wrap:anywhere}
figure{margin:1.6rem 0}figcaption{margin-bottom:.7rem}.plot{position:relative;height:13rem;margin:0 1.5rem 4.2rem 3.5rem}
svg{position:absolute;width:100%;height:100%;overflow:visible}line,polyline{vector-effect:non-scaling-stroke}
.plot span{position:absolute;color:var(--dim);font-size:.8rem;line-height:1;white-space:nowrap}
.y{right:100%;margin-right:.5rem;transform:translateY(-50%)}.x{top:100%;margin-top:.6rem;transform:translateX(-50%)}
.name{top:100%;left:50%;margin-top:1.9rem;transform:translateX(-50%)}@media(max-width:40rem){.wide{display:none}}
.grid{stroke:var(--grid)}.tick{stroke:var(--dim)}polyline{fill:none;stroke-width:1.6;stroke-linejoin:round}
polyline.s0{stroke:var(--s0)}polyline.s1{stroke:var(--s1)}polyline.s2{stroke:var(--s2)}polyline.s3{stroke:var(--s3)}
rect.s0{fill:var(--s0)}.key{margin-left:.8rem;display:inline-block}.key i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}
i.s0{background:var(--s0)}i.s1{background:var(--s1)}i.s2{background:var(--s2)}i.s3{background:var(--s3)}
pre{white-space:pre-wrap;color:var(--dim);font-size:12.5px}
";

/// The page.
pub fn page(summary: &Summary) -> String {
    let mut page = String::new();
    let title = format!("{} connections to {}", summary.connections_wanted, summary.server);
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>tickstream-load: {0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escaped(&title)
    );
    let (class, verdict) = if summary.passed { ("good", "every tick was right") } else { ("bad", "failed") };
    let _ = write!(
        page,
        "<p class=\"dim\">mode {}, {} a second due to each, {:.1} s measured · <b class=\"{class}\">{verdict}</b></p>",
        summary.mode,
        ticks(summary.ticks_per_second_due),
        summary.measured_s
    );
    for failure in &summary.failures {
        let _ = write!(page, "<p class=\"bad\">{}</p>", escaped(failure));
    }
    for warning in &summary.warnings {
        let _ = write!(page, "<p class=\"warn\">{}</p>", escaped(warning));
    }
    page.push_str(&conditions(summary));
    page.push_str(&figures(summary));
    for chart in charts(summary) {
        page.push_str(&chart.render());
    }
    let _ = writeln!(page, "<h2>Summary</h2><pre>{}</pre></html>", escaped(&summary.to_string()));
    page
}

/// When, how and where: figures say nothing without.
fn conditions(summary: &Summary) -> String {
    let Conditions { command, host, kernel, cpu, cpus } = &summary.conditions;
    let date = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(summary.started_ms));
    let cpu = cpu.as_deref().unwrap_or("CPUs of an unknown model");
    format!(
        "<table><tr><th>date<td>{date}<tr><th>command<td><code>{}</code><tr><th>host<td>{}<tr><th>version<td>{}</table>",
        escaped(command),
        escaped(&format!("{host} · {cpus} × {cpu} · Linux {kernel}")),
        escaped(summary.version)
    )
}

fn figures(summary: &Summary) -> String {
    let mut table = String::from("<table>");
    let mut row = |key: &str, value: String| {
        let _ = write!(table, "<tr><th>{key}<td>{}", escaped(&value));
    };
    if let Some(latency) = &summary.latency {
        let at = [
            ("p50", latency.p50_us),
            ("p90", latency.p90_us),
            ("p95", latency.p95_us),
            ("p99", latency.p99_us),
            ("p99.9", latency.p99_9_us),
            ("max", latency.max_us),
        ];
        row("latency", at.map(|(name, us)| format!("{name} {}", ms(us))).join(" · "));
    }
    row(
        "delivered",
        format!(
            "{:.0} ticks/s in {:.0} frames/s; due to {} connections: {:.0} ticks/s",
            summary.ticks_per_second,
            summary.frames_per_second,
            summary.connections_subscribed,
            summary.ticks_per_second_due * summary.connections_subscribed as f64
        ),
    );
    if let Some(usage) = &summary.server_usage {
        row(
            "server",
            format!(
                "{:.1} % of one core · {:.2} µs CPU per delivery · {:.1} MB resident",
                usage.cpu_percent_of_one_core,
                usage.cpu_us_per_delivery,
                usage.rss_bytes as f64 / 1e6
            ),
        );
    }
    let usage = &summary.generator_usage;
    row(
        "generator",
        format!(
            "{:.1} % of one core · {:.2} µs per delivery",
            usage.cpu_percent_of_one_core, usage.cpu_us_per_delivery
        ),
    );
    row("all connected", format!("within {:.2} s", summary.connect_all_ms / 1e3));
    table.push_str("</table>");
    table
}

fn charts(summary: &Summary) -> Vec<Chart> {
    let seconds = &summary.seconds;
    let start = seconds.first().map_or(0, |second| second.second);
    let series = |name, value: &dyn Fn(&SecondSum) -> Option<f64>| Line {
        name,
        points: seconds.iter().filter_map(|sum| Some(((sum.second - start) as f64, value(sum)?))).collect(),
    };
    let in_ms = |us: Option<u64>| us.map(|us| us as f64 / 1e3);
    let in_mb = |bytes: u64| bytes as f64 / 1e6;
    let over_time = |title, y, scale, lines| Chart {
        title,
        x: "seconds",
        y,
        scale,
        lines,
        bars: None,
        x_labels: Vec::new(),
    };
    vec![
        percentile_chart(summary),
        fan_out_chart(summary),
        over_time(
            "Latency by second",
            "ms",
            Scale::Log,
            vec![
                series("p50", &|sum| in_ms(sum.p50_us)),
                series("p95", &|sum| in_ms(sum.p95_us)),
                series("p99", &|sum| in_ms(sum.p99_us)),
                series("max", &|sum| in_ms(sum.max_us)),
            ],
        ),
        over_time(
            "Throughput",
            "per second",
            Scale::Linear,
            vec![
                series("ticks", &|sum| Some(sum.ticks as f64)),
                series("frames", &|sum| Some(sum.frames as f64)),
            ],
        ),
        over_time(
            "Connections",
            "subscribed",
            Scale::Linear,
            vec![series("subscribed", &|sum| Some(sum.subscribed as f64))],
        ),
        over_time(
            "CPU",
            "percent of one core",
            Scale::Linear,
            vec![
                series("server", &|sum| sum.server_cpu_percent),
                series("generator", &|sum| Some(sum.generator_cpu_percent)),
                series("machine", &|sum| Some(sum.machine_busy_percent * summary.conditions.cpus as f64)),
            ],
        ),
        over_time(
            "Resident memory",
            "MB",
            Scale::Linear,
            vec![
                series("server", &|sum| sum.server_rss_bytes.map(in_mb)),
                series("generator", &|sum| Some(in_mb(sum.generator_rss_bytes))),
            ],
        ),
    ]
}

fn percentile_chart(summary: &Summary) -> Chart {
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    let mut points = Vec::new();
    if !summary.histogram.is_empty() {
        // As far as there is more than one value to tell apart.
        let last = (summary.histogram.len() as f64).log10();
        points = (0..=60_u32)
            .map(|step| last * f64::from(step) / 60.0)
            .map(|x| (x, summary.histogram.value_at_quantile(1.0 - 10_f64.powf(-x)) as f64 / 1e3))
            .collect();
    }
    let labels = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999, 0.999_999_9];
    Chart {
        title: "Latency by percentile",
        x: "percentile",
        y: "ms",
        scale: Scale::Log,
        lines: vec![Line { name: "latency", points }],
        bars: None,
        x_labels: labels.map(|quantile| (nines(quantile), percent(quantile))).to_vec(),
    }
}

fn fan_out_chart(summary: &Summary) -> Chart {
    let total: u64 = summary.fan_out.iter().map(|&(_, ticks)| ticks).sum();
    let (mut points, mut width) = (Vec::new(), 1);
    if total > 0 {
        let end = summary.histogram.value_at_quantile(FAN_OUT_END) / 1_000 + 1;
        width = end.div_ceil(FAN_OUT_BARS).max(1);
        let mut bars = vec![0; end.div_ceil(width) as usize];
        for &(ms, ticks) in summary.fan_out.iter().filter(|&&(ms, _)| ms < end) {
            bars[(ms / width) as usize] += ticks;
        }
        points = (0..).zip(bars).map(|(bar, ticks)| ((bar * width) as f64, ticks as f64)).collect();
    }
    Chart {
        title: "Profile of the fan-out",
        x: "ms after epoch_ms",
        y: "ticks that arrived, by time after they were due",
        scale: Scale::Linear,
        lines: vec![Line { name: "ticks", points }],
        bars: Some(width as f64),
        x_labels: Vec::new(),
    }
}

/// "1 tick", "0.5 ticks"
fn ticks(count: f64) -> String {
    if count == 1.0 { "1 tick".to_owned() } else { format!("{count} ticks") }
}

fn percent(quantile: f64) -> String {
    let text = format!("{:.5}", quantile * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_stays_text() {
        assert_eq!(escaped("<b>\"&\"</b>"), "&lt;b&gt;&quot;&amp;&quot;&lt;/b&gt;");
    }

    #[test]
    fn percentiles_have_no_needless_digits() {
        assert_eq!([0.0, 0.5, 0.999, 0.99999].map(percent), ["0 %", "50 %", "99.9 %", "99.999 %"]);
    }
}
