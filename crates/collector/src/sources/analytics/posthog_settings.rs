//! Questions of PostHog's libraries before they send: which features are on. A page captures clicks only once it has an answer.

use hyper::StatusCode;
use serde_json::{Value as Json, json};

use super::PostHog;
use crate::{
    http::{Head, HttpSource, Refusal, Reply},
    outcome::{Malformed, Outcome},
    writer::EventWriter,
};

/// `/array/{token}/config`, `/flags/`, `/decide/`: events are taken, everything else is off.
pub struct PostHogSettings;

impl HttpSource for PostHogSettings {
    fn name(&self) -> &'static str {
        PostHog.name()
    }

    fn needs_key(&self) -> bool {
        false
    }

    fn decode(&self, _: &Head, _: &[u8], _: &mut EventWriter<'_>) -> Result<(), Malformed> {
        Ok(())
    }

    fn success(&self, _: &Head, _: &Outcome) -> Reply {
        Reply::json(StatusCode::OK, &settings())
    }

    fn refusal(&self, head: &Head, refusal: &Refusal) -> Reply {
        PostHog.refusal(head, refusal)
    }
}

fn settings() -> Json {
    json!({
        "supportedCompression": ["gzip", "gzip-js"],
        "analytics": { "endpoint": "/i/v0/e/" },
        "autocapture_opt_out": false,
        "elementsChainAsString": true,
        "defaultIdentifiedOnly": true,
        "autocaptureExceptions": false,
        "captureDeadClicks": false,
        "capturePerformance": false,
        "heatmaps": false,
        "sessionRecording": false,
        "surveys": false,
        "isAuthenticated": false,
        "toolbarParams": {},
        "siteApps": [],
        "hasFeatureFlags": false,
        "flags": {},
        "featureFlags": {},
        "featureFlagPayloads": {},
        "errorsWhileComputingFlags": false,
    })
}
