//! `alerts`: rules that fire, now or in the past; on request told to a webhook and an Alertmanager. For a timer or cron.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tickstream_insights::alerts::{Firing, Rules};
use tickstream_insights::ask::Asker;
use tickstream_insights::filters::{DAY, Filters, SECOND, time_text};
use tickstream_warehouse_core::query::Role;

use crate::args::Alerts;
use crate::report::engine;

/// Time that a receiver has to take an alert.
const SEND_TIME: Duration = Duration::from_secs(10);

/// Tries the rules, prints and sends.
///
/// # Errors
/// If rules or tables can't be read, or a receiver doesn't take an alert.
pub async fn run(args: Alerts) -> Result<ExitCode> {
    let path = args.rules.display();
    let text = std::fs::read_to_string(&args.rules).with_context(|| format!("reading {path}"))?;
    let rules = Rules::read(&text).with_context(|| format!("rules of {path}"))?;
    let now = match &args.at {
        Some(at) => {
            Filters::until(at).with_context(|| format!("{at:?} is no time such as 2026-11-28T09:00:00Z"))?
        }
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as i64,
    };
    let engine = engine(&args.place, args.journal).await?;
    let role = Role::local();
    let hours = args.past_days.map_or(0, |days| i64::from(days) * DAY / (3_600 * SECOND));
    let mut is_firing = false;
    for hour in (0..=hours).rev() {
        let at = now - hour * 3_600 * SECOND;
        let firing = rules.firing(Asker::new(&engine, &role), at).await?;
        is_firing |= !firing.is_empty();
        print(&firing, at)?;
        if args.send {
            send(&rules, &firing, at).await?;
        }
    }
    Ok(if is_firing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(firing: &[Firing], at: i64) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for Firing { name, subject, summary, link, is_silent } in firing {
        let silent = if *is_silent { " (silenced)" } else { "" };
        writeln!(out, "{} {name}: {subject}: {summary}{silent} {link}", time_text(at))?;
    }
    Ok(())
}

async fn send(rules: &Rules, firing: &[Firing], at: i64) -> Result<()> {
    let told: Vec<_> = firing.iter().filter(|firing| !firing.is_silent).collect();
    if told.is_empty() {
        return Ok(());
    }
    if let Some(webhook) = &rules.webhook {
        for firing in &told {
            post(webhook, &firing.json(at).to_string()).await?;
        }
    }
    if let Some(address) = &rules.alertmanager {
        let alerts: Vec<_> = told.iter().map(|firing| firing.alertmanager(at).to_string()).collect();
        post(&format!("{}/api/v2/alerts", address.trim_end_matches('/')), &format!("[{}]", alerts.join(",")))
            .await?;
    }
    Ok(())
}

async fn post(address: &str, body: &str) -> Result<()> {
    let client = reqwest::Client::builder().timeout(SEND_TIME).build()?;
    let request = client.post(address).header("content-type", "application/json").body(body.to_owned());
    let answer = request.send().await.with_context(|| format!("telling {address}"))?;
    answer.error_for_status().with_context(|| format!("telling {address}"))?;
    Ok(())
}
